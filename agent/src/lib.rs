//! The node agent: watches, plans, reconciles, serves.
