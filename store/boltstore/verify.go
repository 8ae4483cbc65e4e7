package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"

	bolt "go.etcd.io/bbolt"
)

// The layout of a bbolt file, in the machine's byte order. A page starts with its number (8 bytes), its flags
// (2), its number of elements (2), and the number of additional pages it spans (4).
const (
	pageHeader    = 16
	elementSize   = 16
	bucketHeader  = 16 // the number of the root page, and a sequence
	metaSize      = 56 // without the checksum
	magic         = 0xED0CDAED
	version       = 2
	branchPage    = 0x01
	leafPage      = 0x02
	freelistPage  = 0x10
	bucketElement = 0x01
	manyFree      = 0xFFFF // as a number of elements: the first element holds the real number
)

const (
	// bbolt uses the page size of the operating system.
	minPageSize = 4 << 10
	maxPageSize = 64 << 10

	// minPages is the size of an empty bbolt file: two roots, a freelist and a leaf.
	minPages = 4

	// maxDepth bounds the recursion. A branch has at least two children, so no real tree comes close.
	maxDepth = 64

	// freelistChunk is how many bytes of the freelist are read at a time.
	freelistChunk = 64 << 10
)

// A verifier follows every pointer in a bbolt file once. bbolt itself trusts the file: a damaged one makes it
// panic, loop forever, fault where recover does not help, or overwrite pages that are in use.
//
// Every length and page number is checked before it is used to allocate, multiply or index. The verifier needs
// one byte of memory per page of the file, and a megabyte or two per level of the tree at most.
type verifier struct {
	file     io.ReaderAt
	pageSize uint64
	pages    uint64 // number of pages according to the latest root
	seen     []bool
}

// verify checks a file of the given size. Both roots must be valid, each page must be in use or free but not
// both, and all keys must be in order, so that a search finds every record.
func verify(file io.ReaderAt, size int64, pageSize int) error {
	if pageSize < minPageSize || pageSize > maxPageSize || pageSize&(pageSize-1) != 0 {
		return fmt.Errorf("impossible page size %d", pageSize)
	}
	v := &verifier{file: file, pageSize: uint64(pageSize)}
	tree, free, err := v.roots()
	if err != nil {
		return err
	}
	switch {
	case v.pages < minPages:
		return fmt.Errorf("impossible number of pages: %d", v.pages)
	case v.pages > uint64(size)/v.pageSize:
		return fmt.Errorf("%d bytes are too short for %d pages", size, v.pages)
	}
	v.seen = make([]bool, v.pages)
	v.seen[0], v.seen[1] = true, true
	if err := v.tree(tree, nil, nil, 0); err != nil {
		return err
	}
	if err := v.freelist(free); err != nil {
		return fmt.Errorf("freelist: %w", err)
	}
	for id, seen := range v.seen {
		if !seen {
			return fmt.Errorf("page %d is neither in use nor free", id)
		}
	}
	return nil
}

// roots reads the two root pages and returns what the later one points to. If the later one is damaged, bbolt
// falls back to the earlier one and loses the last commit. That fallback is for a write torn by a crash. A root
// lies within one sector and cannot be torn, so a bad root means damage.
func (v *verifier) roots() (tree, free uint64, err error) {
	var latest uint64
	for id := range uint64(2) {
		root := make([]byte, pageHeader+metaSize+8)
		if _, err := v.file.ReadAt(root, int64(id*v.pageSize)); err != nil {
			return 0, 0, fmt.Errorf("root %d: %w", id, err)
		}
		// A root has its magic number at 0, the version at 4, the page size at 8, flags at 12, the tree at 16 along
		// with a sequence, the freelist at 32, the number of pages at 40, the transaction at 48, and the checksum.
		root = root[pageHeader:]
		sum := fnv.New64a()
		sum.Write(root[:metaSize])
		txid := binary.NativeEndian.Uint64(root[48:])
		switch {
		case sum.Sum64() != binary.NativeEndian.Uint64(root[metaSize:]):
			return 0, 0, fmt.Errorf("root %d has a wrong checksum", id)
		case binary.NativeEndian.Uint32(root) != magic, binary.NativeEndian.Uint32(root[4:]) != version:
			// bbolt would use the other root.
			return 0, 0, fmt.Errorf("root %d has a wrong magic number or version", id)
		case uint64(binary.NativeEndian.Uint32(root[8:])) != v.pageSize:
			return 0, 0, fmt.Errorf("root %d has a different page size", id)
		case txid > math.MaxInt64/2: // the number of a later commit could wrap around to 0
			return 0, 0, fmt.Errorf("root %d has an impossible transaction number", id)
		}
		if id == 0 || txid > latest {
			latest = txid
			tree = binary.NativeEndian.Uint64(root[16:])
			free = binary.NativeEndian.Uint64(root[32:])
			v.pages = binary.NativeEndian.Uint64(root[40:])
		}
	}
	return tree, free, nil
}

// see marks the page as visited. A page visited twice is an error.
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

// A page is a page of the file, including the additional pages it spans, or the page inside a small bucket.
type page struct {
	file  io.ReaderAt
	start int64  // offset in the file
	size  uint64 // in bytes
	head  []byte // the first bytes, if they have been read
	flags uint16
	count int // number of elements
}

var errBeyondPage = errors.New("an element exceeds the page")

// bytes returns n bytes of the page.
func (p *page) bytes(at, n uint64) ([]byte, error) {
	if at > p.size || n > p.size-at {
		return nil, errBeyondPage
	}
	if at+n <= uint64(len(p.head)) {
		return p.head[at : at+n], nil
	}
	b := make([]byte, n)
	_, err := p.file.ReadAt(b, p.start+int64(at))
	return b, err
}

// readHeader sets the flags and the number of elements, and returns the header.
func (p *page) readHeader() ([]byte, error) {
	header, err := p.bytes(0, pageHeader)
	if err != nil {
		return nil, err
	}
	p.flags = binary.NativeEndian.Uint16(header[8:])
	p.count = int(binary.NativeEndian.Uint16(header[10:]))
	return header, nil
}

// page reads a page and marks it, and the additional pages it spans, as visited.
func (v *verifier) page(id uint64) (*page, error) {
	if err := v.see(id); err != nil {
		return nil, err
	}
	p := &page{file: v.file, start: int64(id * v.pageSize), size: v.pageSize}
	var err error
	if p.head, err = p.bytes(0, v.pageSize); err != nil {
		return nil, err
	}
	header, err := p.readHeader()
	if err != nil {
		return nil, err
	}
	if binary.NativeEndian.Uint64(header) != id {
		return nil, fmt.Errorf("page %d has the number of another page", id)
	}
	// The additional pages have no header. Marking them one by one also checks that the page ends within the file.
	further := uint64(binary.NativeEndian.Uint32(header[12:]))
	for i := range further {
		if err := v.see(id + 1 + i); err != nil {
			return nil, err
		}
	}
	p.size += further * v.pageSize
	return p, nil
}

// tree checks the tree under a page. low and high come from the branch above, and are nil at the edges. The first key
// must be low, because bbolt finds the page in its branch by that key. All keys must be less than high.
func (v *verifier) tree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return errors.New("the tree is too deep")
	}
	p, err := v.page(id)
	if err != nil {
		return err
	}
	switch {
	case p.count == 0 && (low != nil || p.flags == branchPage):
		err = errors.New("no elements")
	case p.flags == branchPage:
		err = v.branch(p, low, high, depth)
	case p.flags == leafPage:
		err = v.leaf(p, low, high, depth)
	default:
		err = errors.New("neither a branch nor a leaf")
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

// An element of a branch points to a child, an element of a leaf has a value.
type element struct {
	key       []byte
	child     uint64
	flags     uint32
	at, value uint64 // offset of the value in the page, and its length
}

// element decodes element i of the page, except for its key. It returns the offset of the key in the page, and its
// length. It checks nothing.
func (p *page) element(table []byte, i int) (e element, at, size uint64) {
	entry := table[i*elementSize:][:elementSize]
	var pos, length uint32
	if p.flags == branchPage {
		pos, length = binary.NativeEndian.Uint32(entry), binary.NativeEndian.Uint32(entry[4:])
		e.child = binary.NativeEndian.Uint64(entry[8:])
	} else {
		e.flags = binary.NativeEndian.Uint32(entry)
		pos, length = binary.NativeEndian.Uint32(entry[4:]), binary.NativeEndian.Uint32(entry[8:])
		e.value = uint64(binary.NativeEndian.Uint32(entry[12:]))
	}
	at, size = uint64(pageHeader+i*elementSize)+uint64(pos), uint64(length)
	e.at = at + size
	return e, at, size
}

// elements calls f for each element of the page. It returns an error if they overlap, exceed the page or are not
// in order. Overlapping elements would make a small file unfold to a huge one.
func (p *page) elements(low, high []byte, f func(element) error) error {
	table, err := p.bytes(pageHeader, uint64(p.count)*elementSize)
	if err != nil {
		return err
	}
	end := uint64(pageHeader + len(table)) // of the previous element
	previous := low
	for i := range p.count {
		e, at, size := p.element(table, i)
		switch {
		case at < end:
			return errors.New("elements overlap")
		case e.at+e.value > p.size:
			return errBeyondPage
		case size == 0 || size > bolt.MaxKeySize:
			return errors.New("malformed key")
		}
		end = e.at + e.value
		if e.key, err = p.bytes(at, size); err != nil {
			return err
		}
		if err := checkOrder(i == 0, previous, e.key, high); err != nil {
			return err
		}
		previous = e.key
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

// checkOrder checks a key against the previous one of its page, or, if it is the first, against the lower bound of the
// page. It must be less than the upper bound. Either bound may be nil.
func checkOrder(first bool, previous, key, high []byte) error {
	order := bytes.Compare(previous, key)
	switch {
	case first && previous != nil && order != 0:
		return errors.New("the first key differs from the one in the branch")
	case !first && order >= 0, high != nil && bytes.Compare(key, high) >= 0:
		return errors.New("keys are out of order")
	}
	return nil
}

// branch checks each child. The keys of a child range from its key in the branch to the key of the next child.
func (v *verifier) branch(p *page, low, high []byte, depth int) error {
	var last *element
	err := p.elements(low, high, func(e element) error {
		child := last
		last = &e
		if child == nil {
			return nil
		}
		return v.tree(child.child, child.key, e.key, depth+1)
	})
	if err != nil {
		return err
	}
	return v.tree(last.child, last.key, high, depth+1)
}

// leaf checks the order of the keys, and each bucket in the leaf. The values of the other elements are the caller's.
func (v *verifier) leaf(p *page, low, high []byte, depth int) error {
	return p.elements(low, high, func(e element) error {
		if e.flags&bucketElement == 0 {
			return nil
		}
		return v.bucket(p, e, depth+1)
	})
}

// bucket checks a bucket. A large one has a tree of its own, a small one has its only page in its value.
func (v *verifier) bucket(p *page, e element, depth int) error {
	if e.value < bucketHeader {
		return errors.New("a bucket without a root")
	}
	header, err := p.bytes(e.at, bucketHeader)
	if err != nil {
		return err
	}
	if root := binary.NativeEndian.Uint64(header); root != 0 {
		return v.tree(root, nil, nil, depth)
	}
	inline := &page{file: p.file, start: p.start + int64(e.at) + bucketHeader, size: e.value - bucketHeader}
	if _, err := inline.readHeader(); err != nil {
		return err
	}
	if inline.flags != leafPage || depth > maxDepth {
		return errors.New("a bucket without a page")
	}
	return v.leaf(inline, nil, nil, depth)
}

// freelist checks that each free page is listed once and is not in use.
func (v *verifier) freelist(id uint64) error {
	p, err := v.page(id)
	if err != nil {
		return err
	}
	if p.flags != freelistPage {
		return fmt.Errorf("page %d is not a freelist", id)
	}
	at, n := uint64(pageHeader), uint64(p.count)
	if p.count == manyFree {
		first, err := p.bytes(at, 8)
		if err != nil {
			return err
		}
		at, n = at+8, binary.NativeEndian.Uint64(first)
	}
	if n > (p.size-at)/8 {
		return errBeyondPage
	}
	for end := at + n*8; at < end; { // n*8 cannot overflow: it is at most the size of the page
		ids, err := p.bytes(at, min(end-at, freelistChunk))
		if err != nil {
			return err
		}
		at += uint64(len(ids))
		for ; len(ids) > 0; ids = ids[8:] {
			if err := v.see(binary.NativeEndian.Uint64(ids)); err != nil {
				return err
			}
		}
	}
	return nil
}
