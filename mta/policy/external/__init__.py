"""Programs that policy files ask about mail: policy servers and scanners."""
