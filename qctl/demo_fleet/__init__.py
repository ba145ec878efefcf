"""A fleet that is not there: what its workers would say and answer, for demonstrations and measurements."""
