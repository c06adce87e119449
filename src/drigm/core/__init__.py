"""What every room shares: shapes and records, errors, the settings of a run and their presets."""
