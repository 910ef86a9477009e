"""A small event-sourcing toolkit: event stores, subscriptions, projections, deciders. Nothing of video."""
