package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of a bbolt file, in the machine's byte order. A page begins with its number (8 bytes), its flags
// (2), its number of elements (2), and the number of further pages that it spans (4).
const (
	pageHeader    = 16
	elementSize   = 16
	bucketHeader  = 16 // the root page's number, and a sequence
	metaSize      = 56 // without its checksum
	branchPage    = 0x01
	leafPage      = 0x02
	freelistPage  = 0x10
	bucketElement = 0x01
	manyFree      = 0xFFFF // as the number of elements: the real one comes first
)

// A verifier follows every pointer in a bbolt file once. bbolt itself takes a file on trust: from a damaged
// one it panics, loops for ever, faults where no recover helps, or overwrites pages that are in use.
type verifier struct {
	file     io.ReaderAt
	pageSize int
	pages    uint64 // the file's pages, by its root
	seen     []bool
}

// verify checks that the file is whole: roots, pages, and that each page is either in use or free, once.
func verify(file io.ReaderAt, pageSize int) error {
	v := &verifier{file: file, pageSize: pageSize}
	tree, free, err := v.roots()
	if err != nil {
		return err
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, int64(v.pages)*int64(pageSize)-1); err != nil {
		return fmt.Errorf("it is shorter than its %d pages: %w", v.pages, err)
	}
	v.seen = make([]bool, v.pages)
	v.seen[0], v.seen[1] = true, true
	if err := v.tree(tree); err != nil {
		return err
	}
	if err := v.freelist(free); err != nil {
		return err
	}
	for id, seen := range v.seen {
		if !seen {
			return fmt.Errorf("page %d is neither in use nor free", id)
		}
	}
	return nil
}

// roots reads the two root pages, of which the later is valid. bbolt falls back to the earlier where the later is
// damaged, and so forgets the last commit. That is for a write that a crash cut in two, which a root
// does not risk: it lies within one sector.
func (v *verifier) roots() (tree, free uint64, err error) {
	var latest uint64
	for id := range 2 {
		root := make([]byte, pageHeader+metaSize+8)
		if _, err := v.file.ReadAt(root, int64(id*v.pageSize)); err != nil {
			return 0, 0, err
		}
		root = root[pageHeader:]
		sum := fnv.New64a()
		sum.Write(root[:metaSize])
		if sum.Sum64() != binary.NativeEndian.Uint64(root[metaSize:]) {
			return 0, 0, fmt.Errorf("root %d has a wrong checksum", id)
		}
		if txid := binary.NativeEndian.Uint64(root[48:]); id == 0 || txid > latest {
			latest = txid
			tree = binary.NativeEndian.Uint64(root[16:])
			free = binary.NativeEndian.Uint64(root[32:])
			v.pages = binary.NativeEndian.Uint64(root[40:])
		}
	}
	return tree, free, nil
}

// page returns the page's flags, number of elements and bytes, and takes note that it is in use.
func (v *verifier) page(id uint64) (flags, count int, page []byte, err error) {
	if err := v.see(id); err != nil {
		return 0, 0, nil, err
	}
	page = make([]byte, v.pageSize)
	if _, err := v.file.ReadAt(page, int64(id)*int64(v.pageSize)); err != nil {
		return 0, 0, nil, err
	}
	if binary.NativeEndian.Uint64(page) != id {
		return 0, 0, nil, fmt.Errorf("page %d says that it is another", id)
	}
	further := uint64(binary.NativeEndian.Uint32(page[12:]))
	for i := range further {
		if err := v.see(id + 1 + i); err != nil {
			return 0, 0, nil, err
		}
	}
	if further > 0 {
		page = make([]byte, (1+further)*uint64(v.pageSize))
		if _, err := v.file.ReadAt(page, int64(id)*int64(v.pageSize)); err != nil {
			return 0, 0, nil, err
		}
	}
	return int(binary.NativeEndian.Uint16(page[8:])), int(binary.NativeEndian.Uint16(page[10:])), page, nil
}

func (v *verifier) see(id uint64) error {
	if id >= v.pages {
		return fmt.Errorf("page %d is out of range", id)
	}
	if v.seen[id] {
		return fmt.Errorf("page %d is used twice", id)
	}
	v.seen[id] = true
	return nil
}

func (v *verifier) tree(id uint64) error {
	flags, count, page, err := v.page(id)
	if err != nil {
		return err
	}
	switch flags {
	case branchPage:
		err = v.branch(count, page)
	case leafPage:
		err = v.leaf(count, page)
	default:
		err = errors.New("neither a branch nor a leaf")
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// element returns where the i-th element's description starts, or an error if it does not fit.
func element(page []byte, i int) (int, error) {
	start := pageHeader + i*elementSize
	if start+elementSize > len(page) {
		return 0, errors.New("too many elements")
	}
	return start, nil
}

func (v *verifier) branch(count int, page []byte) error {
	if count == 0 {
		return errors.New("a branch without leaves")
	}
	for i := range count {
		start, err := element(page, i)
		if err != nil {
			return err
		}
		at := uint64(start) + uint64(binary.NativeEndian.Uint32(page[start:]))
		if at+uint64(binary.NativeEndian.Uint32(page[start+4:])) > uint64(len(page)) {
			return errors.New("a key beyond the page")
		}
		if err := v.tree(binary.NativeEndian.Uint64(page[start+8:])); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) leaf(count int, page []byte) error {
	for i := range count {
		start, err := element(page, i)
		if err != nil {
			return err
		}
		flags := binary.NativeEndian.Uint32(page[start:])
		at := uint64(start) + uint64(binary.NativeEndian.Uint32(page[start+4:]))
		value := at + uint64(binary.NativeEndian.Uint32(page[start+8:]))
		end := value + uint64(binary.NativeEndian.Uint32(page[start+12:]))
		if end > uint64(len(page)) {
			return errors.New("a record beyond the page")
		}
		if flags&bucketElement != 0 {
			if err := v.bucket(page[value:end]); err != nil {
				return err
			}
		}
	}
	return nil
}

// bucket checks a bucket: its own tree, or, if it is small, the page that is its value.
func (v *verifier) bucket(value []byte) error {
	if len(value) < bucketHeader {
		return errors.New("a bucket without a root")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return v.tree(root)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || binary.NativeEndian.Uint16(inline[8:]) != leafPage {
		return errors.New("a bucket without a page")
	}
	return v.leaf(int(binary.NativeEndian.Uint16(inline[10:])), inline)
}

func (v *verifier) freelist(id uint64) error {
	flags, count, page, err := v.page(id)
	if err != nil {
		return fmt.Errorf("freelist: %w", err)
	}
	if flags != freelistPage {
		return fmt.Errorf("freelist: page %d is none", id)
	}
	ids := page[pageHeader:]
	n := uint64(count)
	if count == manyFree {
		n, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return errors.New("freelist: too many elements")
	}
	for i := range n {
		if err := v.see(binary.NativeEndian.Uint64(ids[i*8:])); err != nil {
			return fmt.Errorf("freelist: %w", err)
		}
	}
	return nil
}
