"""Architecture search in a federation, after DC-NAS: clients train sub-networks of one supernet."""
