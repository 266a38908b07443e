"""What the product's speed and memory are measured against, and how."""
