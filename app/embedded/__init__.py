"""The whole system on one machine, from wheels: what `headracectl up`, `down` and `status` run."""
