"""What stands out in a formula and its data before anything is fitted, and what of other programs is not here."""
