"""The engines that carry messages: in this process, Flower's simulation, Flower's deployment."""
