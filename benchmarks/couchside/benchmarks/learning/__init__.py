"""A fleet that learns together: real ratings, real TVs, a crowd, and the cloud's servers."""
