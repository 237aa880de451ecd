//! Reversal: what transactions did in a token is undone (mission M5).
