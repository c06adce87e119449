"""What a trained team is compared with."""
