"""Language models on this machine: `ChatLocal`, its engines, and a server for GGUF files."""
