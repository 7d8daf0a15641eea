"""Between the fleet and the cloud: nothing here yet, see cloud_sync/README.md."""
