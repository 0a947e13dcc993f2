"""The platform on one machine: stand-ins for the managed services, and what starts them."""
