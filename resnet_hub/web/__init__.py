"""A page that classifies photos without a server: static files, with the network inside."""
