"""The terminal client: a peer of the server like any other, which knows it by its wire contract alone."""
