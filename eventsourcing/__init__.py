"""A small event-sourcing toolkit: event stores, subscriptions, projections, deciders. It knows nothing of video."""
