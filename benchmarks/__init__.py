"""What the README's figures come from. Everything runs on loopback and stops by itself."""
