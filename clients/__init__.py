"""Code for those who call the gateway. Nothing of it is deployed."""
