"""The cost of surgetank beside that of other proxies with the same duties, measured in one run."""
