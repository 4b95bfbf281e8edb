"""Instructions, preferences and rewards, by TRL's trainers."""
