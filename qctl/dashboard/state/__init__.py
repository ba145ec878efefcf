"""The dashboard's state: what events and answers add up to."""
