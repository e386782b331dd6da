"""Where models run. A runner takes a micro-batch's values and gives back one output per value."""
