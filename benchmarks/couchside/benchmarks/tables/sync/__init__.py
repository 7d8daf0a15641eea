"""What delivery and learning together cost on the wire and in the cloud."""
