"""Messages, chat templates and the tokens that they make."""
