"""The guest room, module by module."""
