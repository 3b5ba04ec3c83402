"""How questions come in: one, many, or a chat; and which way each goes."""
