"""`Job` → a trained model: arguments, the trainer, callbacks, checkpoints, losses and checks."""
