"""Learning from rewards: RLOO and GRPO."""
