//! What the status page says of the cluster.
