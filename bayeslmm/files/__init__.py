"""Files of users: names, writing that leaves the old file until the new one is complete, errors of the system."""
