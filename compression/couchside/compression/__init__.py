"""The lab: large encoders and a user model in, a Bundle of small ones out."""
