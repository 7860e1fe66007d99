"""A torch.compile stack you can see through."""
