"""What is asked of a REML or ML fit: profiles and intervals."""
