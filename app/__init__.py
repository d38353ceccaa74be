"""Minga: a service where civil society organisations share what they learn about security sector reform."""
