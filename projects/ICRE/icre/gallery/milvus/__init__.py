"""A gallery in Milvus: pymilvus is imported when a connection is opened, and not before."""
