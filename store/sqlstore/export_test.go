package sqlstore

// Schema returns the statement of CreateTable.
func (s *Store) Schema() string { return s.table.create }
