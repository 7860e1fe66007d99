"""ATen graphs to loop IR, schedules and host programs; device-neutral."""
