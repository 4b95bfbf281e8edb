"""Learning from preferences: DPO, KTO and reward models."""
