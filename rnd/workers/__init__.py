"""Workers: what moves and checks files (document: Data Transfer Between Nodes)."""
