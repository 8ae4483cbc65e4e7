package boltstore_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"hash/fnv"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ginrefresh/ginrefresh/store/boltstore"
)

// The offsets of the fields of a root in its page.
const (
	rootMagic    = 16
	rootVersion  = 20
	rootPageSize = 24
	rootTree     = 32
	rootFreelist = 48
	rootPages    = 56
	rootTxID     = 64
	rootSum      = 72
)

// seal sets the checksum of both roots.
func seal(data []byte, pageSize int) {
	for _, root := range [][]byte{data, data[pageSize:]} {
		sum := fnv.New64a()
		sum.Write(root[rootMagic:rootSum])
		binary.NativeEndian.PutUint64(root[rootSum:], sum.Sum64())
	}
}

// openCrafted opens a file with the given bytes. Open must neither panic nor allocate much more memory than the size of the
// file.
func openCrafted(t testing.TB, data []byte) (*boltstore.Store, error) {
	t.Helper()
	path := file(t)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s, err := boltstore.Open(path)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > uint64(4<<20+8*len(data)) {
		t.Errorf("Open allocated %d bytes for a file of %d", took, len(data))
	}
	if err != nil {
		if strings.Contains(err.Error(), "runtime error") || strings.Contains(err.Error(), "assertion failed") {
			t.Errorf("the file was not checked before it was used: %v", err)
		}
		if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
		if _, again := boltstore.Open(path); again == nil || again.Error() != err.Error() {
			t.Errorf("the second Open returns a different error: first %v, then %v", err, again)
		}
	}
	return s, err
}

func mustOpen(t testing.TB, name string, data []byte) {
	t.Helper()
	if s, err := openCrafted(t, data); err != nil {
		t.Errorf("%s: %v", name, err)
	} else {
		closeStore(t, s)
	}
}

func mustRefuse(t testing.TB, name string, data []byte) {
	t.Helper()
	s, err := openCrafted(t, data)
	if err == nil {
		s.Close()
		t.Errorf("%s: the file opens", name)
	} else if !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%s: the error does not say that the file is damaged: %v", name, err)
	}
}

// smallFile returns the bytes of a file with a tree of two levels and free pages, and its page size.
func smallFile(t testing.TB) ([]byte, int) {
	t.Helper()
	path := file(t)
	s := open(t, path)
	fill(t, s, strings.Repeat("some session ", 20), 40, "some value", inAnHour())
	closeStore(t, s)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data, os.Getpagesize()
}

// TestCraftedRoots writes impossible numbers into roots and gives them correct checksums.
func TestCraftedRoots(t *testing.T) {
	whole, pageSize := smallFile(t)
	latest := whole
	if binary.NativeEndian.Uint64(whole[pageSize+rootTxID:]) > binary.NativeEndian.Uint64(whole[rootTxID:]) {
		latest = whole[pageSize:]
	}
	pages := binary.NativeEndian.Uint64(latest[rootPages:])
	filePages := uint64(len(whole) / pageSize)
	for _, field := range []struct {
		name   string
		at     int
		size   int
		values []uint64
	}{
		{"magic", rootMagic, 4, []uint64{0, 1}},
		{"version", rootVersion, 4, []uint64{0, 1, 3}},
		{"page size", rootPageSize, 4, []uint64{0, 1, 7, 16, 80, 512, 1024, 4095, 4097, 6000, 8192, 1 << 15, 1 << 17, 1 << 30, 1 << 31, 1<<32 - 1}},
		{"tree", rootTree, 8, []uint64{0, 1, pages, filePages, 1 << 20, 1 << 40, 1 << 52, 1 << 63, math.MaxUint64}},
		{"freelist", rootFreelist, 8, []uint64{0, 1, pages, filePages, 1 << 20, 1 << 40, 1 << 52, 1 << 63, math.MaxUint64}},
		{"pages", rootPages, 8, []uint64{0, 1, 2, 3, pages - 1, pages + 1, filePages + 1, 1 << 31, 1 << 33, 1 << 51, 1<<51 + 1, 1 << 52, 1<<52 + 4, 1 << 60, 1 << 63, math.MaxUint64}},
		{"transaction", rootTxID, 8, []uint64{math.MaxInt64, 1 << 63, math.MaxUint64}},
	} {
		for _, value := range field.values {
			if field.size == 4 && value == uint64(pageSize) {
				continue
			}
			for _, roots := range [][]int{{0}, {1}, {0, 1}} {
				name := fmt.Sprint(field.name, " ", value, " in roots ", roots)
				data := withRootField(whole, pageSize, roots, field.at, field.size, value)
				earlier := len(roots) == 1 && &whole[roots[0]*pageSize] != &latest[0]
				if bytes.Equal(data, whole) {
					if earlier {
						continue // by chance the earlier root has this value: it depends on how bbolt grouped the writes
					}
					t.Fatal(name, ": nothing has changed")
				}
				seal(data, pageSize)
				if earlier && field.size == 8 && field.at != rootTxID {
					mustOpen(t, name, data) // the earlier root describes an earlier state, and bbolt will overwrite it
				} else {
					mustRefuse(t, name, data)
				}
			}
		}
	}
}

// withRootField returns a copy of the file with another value in a field of the given roots.
func withRootField(whole []byte, pageSize int, roots []int, at, size int, value uint64) []byte {
	data := bytes.Clone(whole)
	for _, root := range roots {
		field := data[root*pageSize+at:]
		if size == 4 {
			binary.NativeEndian.PutUint32(field, uint32(value))
		} else {
			binary.NativeEndian.PutUint64(field, value)
		}
	}
	return data
}

// TestNoPageSize makes bbolt divide by a page size of 0, which it does for a large file. The panic must not leave the file
// locked.
func TestNoPageSize(t *testing.T) {
	whole, pageSize := smallFile(t)
	data := bytes.Clone(whole)
	for _, root := range []int{0, pageSize} {
		clear(data[root+rootPageSize:][:4])
	}
	seal(data, pageSize)
	path := file(t)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<30+1); err != nil {
		t.Skip(err)
	}
	for range 2 {
		s, err := boltstore.Open(path)
		if err == nil {
			s.Close()
			t.Fatal("the file opens")
		}
		if !strings.Contains(err.Error(), "damaged") {
			t.Errorf("the error does not say that the file is damaged: %v", err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil { // keeps the inode, and so the lock if there is one
		t.Fatal(err)
	}
	open(t, path)
}

// TestCraftedPages writes extreme numbers into each word of the headers and element tables of all pages.
func TestCraftedPages(t *testing.T) {
	whole, pageSize := smallFile(t)
	values := []uint32{0, 1, 0xFFFF, 1 << 16, 1 << 20, math.MaxInt32, 1 << 31, math.MaxUint32 - 15, math.MaxUint32}
	opened, tried := 0, 0
	for start := 2 * pageSize; start+pageSize <= len(whole); start += pageSize {
		if len(bytes.Trim(whole[start:start+pageSize], "\x00")) == 0 {
			continue // never used
		}
		for at := start; at < start+64; at += 4 {
			for range rounds(len(values), 2) {
				value := values[tried%len(values)] // other ones for each word
				tried++
				data := bytes.Clone(whole)
				binary.NativeEndian.PutUint32(data[at:], value)
				s, err := openCrafted(t, data)
				if err != nil {
					continue
				}
				opened++
				if s.Len() != 40 {
					t.Errorf("page %d, byte %d, value %d: the file opens with %d records, want 40", start/pageSize, at-start, value, s.Len())
				}
				s.Close()
			}
		}
	}
	t.Logf("proof: %d damaged files", tried)
	t.Logf("%d of %d files open, because the changed word is not in use", opened, tried)
}

// TestDamagedBranch flips bits of the keys in a branch. The records do not change, but a search would end in the wrong leaf.
// A swap would then write a second record of the same key, and the next Open might find the first.
func TestDamagedBranch(t *testing.T) {
	whole, pageSize := smallFile(t)
	refused, opened := 0, 0
	for start := 2 * pageSize; start+pageSize <= len(whole); start += pageSize {
		page := whole[start : start+pageSize]
		if binary.NativeEndian.Uint16(page[8:]) != 1 {
			continue
		}
		for i := range int(binary.NativeEndian.Uint16(page[10:])) {
			element := 16 + 16*i
			key := start + element + int(binary.NativeEndian.Uint32(page[element:]))
			size := int(binary.NativeEndian.Uint32(page[element+4:]))
			for _, at := range []int{key, key + size - 2, key + size - 1} {
				data := bytes.Clone(whole)
				data[at] ^= 4
				s, err := openCrafted(t, data)
				if err != nil {
					refused++
					continue
				}
				opened++
				path := s.DB().Path()
				for i := range 40 {
					mustSwap(t, s, strings.Repeat("some session ", 20)+strconv.Itoa(i), "some value", "2", inAnHour())
				}
				closeStore(t, s)
				s = open(t, path)
				if s.Len() != 40 {
					t.Errorf("%d records, want 40", s.Len())
				}
				for i := range 40 {
					if got := s.Peek(strings.Repeat("some session ", 20) + strconv.Itoa(i)); got != "2" {
						t.Fatalf("a swap was lost: %q", got)
					}
				}
				closeStore(t, s)
			}
		}
	}
	if refused == 0 {
		t.Error("every file with a damaged branch opens")
	}
	t.Logf("proof: %d damaged files", refused+opened)
	t.Logf("%d files were refused, %d opened", refused, opened)
}

// A crafted is a file that a test builds page by page. Its roots are pages 0 and 1, its freelist is page 2.
type crafted struct {
	pages    [][]byte
	pageSize int
}

const (
	branch = 1
	leaf   = 2
)

// An item is an element of a page: of a branch if it has a child, else of a leaf.
type item struct {
	key, value []byte
	child      int
	bucket     bool
	at         int // offset of the key in the page; 0: after the previous item
}

// encodeItems returns a page with the items, but without its number.
func encodeItems(flags int, items []item) []byte {
	page := make([]byte, 16+16*len(items))
	binary.NativeEndian.PutUint16(page[8:], uint16(flags))
	binary.NativeEndian.PutUint16(page[10:], uint16(len(items)))
	for i, it := range items {
		at := it.at
		if at == 0 {
			at = len(page)
			page = append(append(page, it.key...), it.value...)
		}
		element := page[16+16*i:]
		pos := uint32(at - 16 - 16*i)
		if flags == branch {
			binary.NativeEndian.PutUint32(element, pos)
			binary.NativeEndian.PutUint32(element[4:], uint32(len(it.key)))
			binary.NativeEndian.PutUint64(element[8:], uint64(it.child))
			continue
		}
		if it.bucket {
			binary.NativeEndian.PutUint32(element, 1)
		}
		binary.NativeEndian.PutUint32(element[4:], pos)
		binary.NativeEndian.PutUint32(element[8:], uint32(len(it.key)))
		binary.NativeEndian.PutUint32(element[12:], uint32(len(it.value)))
	}
	return page
}

// add appends a page, including the additional pages that it spans, and returns its number.
func (c *crafted) add(page []byte) int {
	id := 3
	for _, p := range c.pages {
		id += len(p) / c.pageSize
	}
	page = append(page, make([]byte, (c.pageSize-len(page)%c.pageSize)%c.pageSize)...)
	binary.NativeEndian.PutUint64(page, uint64(id))
	binary.NativeEndian.PutUint32(page[12:], uint32(len(page)/c.pageSize-1))
	c.pages = append(c.pages, page)
	return id
}

func bucketWithRoot(id int) []byte {
	return binary.NativeEndian.AppendUint64(binary.NativeEndian.AppendUint64(nil, uint64(id)), 0)
}

func inlineBucket(page []byte) []byte { return append(make([]byte, 16), page...) }

// file returns the bytes of a blacklist whose records are in the tree under page records. The tally matches the stored
// items. The additional items are in the bucket of the metadata.
func (c *crafted) file(records int, stored []item, more ...item) []byte {
	var sum uint64
	table := crc64.MakeTable(crc64.ECMA)
	for _, it := range stored {
		length := binary.BigEndian.AppendUint64(nil, uint64(len(it.key)))
		sum += crc64.Checksum(append(append(length, it.key...), it.value...), table)
	}
	tally := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(len(stored))), sum)
	meta := append(more, item{key: []byte("format"), value: []byte("ginrefresh blacklist 1")}, item{key: []byte("tally"), value: tally})
	root := c.add(encodeItems(leaf, []item{
		{key: []byte("meta"), value: inlineBucket(encodeItems(leaf, meta)), bucket: true},
		{key: []byte("records"), value: bucketWithRoot(records), bucket: true},
	}))
	data := make([]byte, 3*c.pageSize)
	binary.NativeEndian.PutUint64(data[2*c.pageSize:], 2)
	binary.NativeEndian.PutUint16(data[2*c.pageSize+8:], 0x10)
	for _, p := range c.pages {
		data = append(data, p...)
	}
	for id, page := range [][]byte{data, data[c.pageSize:]} {
		binary.NativeEndian.PutUint64(page, uint64(id))
		binary.NativeEndian.PutUint16(page[8:], 4)
		binary.NativeEndian.PutUint32(page[rootMagic:], 0xED0CDAED)
		binary.NativeEndian.PutUint32(page[rootVersion:], 2)
		binary.NativeEndian.PutUint32(page[rootPageSize:], uint32(c.pageSize))
		binary.NativeEndian.PutUint64(page[rootTree:], uint64(root))
		binary.NativeEndian.PutUint64(page[rootFreelist:], 2)
		binary.NativeEndian.PutUint64(page[rootPages:], uint64(len(data)/c.pageSize))
		binary.NativeEndian.PutUint64(page[rootTxID:], uint64(10+id))
	}
	seal(data, c.pageSize)
	return data
}

func newCrafted() *crafted { return &crafted{pageSize: os.Getpagesize()} }

// record returns an item as the store writes it, with an expiry in the year 9999.
func record(key, value string) item {
	return item{
		key:   []byte("k" + key),
		value: append(binary.BigEndian.AppendUint64(nil, 253402300799000), value...),
	}
}

func records(keys ...string) (items []item) {
	for _, key := range keys {
		items = append(items, record(key, "value"))
	}
	return items
}

func bucket(value []byte) item { return item{key: []byte("b"), value: value, bucket: true} }

// leafFile returns a file with all records in one leaf.
func (c *crafted) leafFile(items []item, more ...item) []byte {
	return c.file(c.add(encodeItems(leaf, items)), items, more...)
}

// branchFile returns a file with a branch above two leaves. The branch has the given keys for them.
func (c *crafted) branchFile(leftKey string, left []item, rightKey string, right []item) []byte {
	top := c.add(encodeItems(branch, []item{
		{key: []byte("k" + leftKey), child: c.add(encodeItems(leaf, left))},
		{key: []byte("k" + rightKey), child: c.add(encodeItems(leaf, right))},
	}))
	return c.file(top, append(left, right...))
}

// TestCraftedWhole opens files that are correct. It proves that the files of the tests below are refused for the one thing
// that is wrong with each.
func TestCraftedWhole(t *testing.T) {
	whole := func(pageSize int) []byte {
		return (&crafted{pageSize: pageSize}).branchFile("a", records("a", "b"), "c", records("c", "d", "e"))
	}
	for _, pageSize := range []int{4096, 8192, 16384, 65536} {
		t.Run(fmt.Sprint("pages of ", pageSize), func(t *testing.T) {
			s, err := openCrafted(t, whole(pageSize))
			if err != nil {
				t.Fatal(err)
			}
			mustSwap(t, s, "c", "value", "2", inAnHour())
			mustSwap(t, s, "bb", "", "2", inAnHour())
			path := s.DB().Path()
			closeStore(t, s)
			if s = open(t, path); s.Len() != 6 {
				t.Errorf("%d records, want 6", s.Len())
			}
		})
	}
	for _, pageSize := range []int{1024, 2048, 6144, 12288, 1 << 17} {
		t.Run(fmt.Sprint("impossible pages of ", pageSize), func(t *testing.T) {
			mustRefuse(t, "impossible page size", append(whole(pageSize), make([]byte, 16<<10)...))
		})
	}
}

// craftedTrees are files with correct checksums. bbolt would open them and rely on them.
var craftedTrees = map[string]func(c *crafted) []byte{
	"overlapping records": overlapping,
	"keys out of order":   func(c *crafted) []byte { return c.leafFile(records("b", "a")) },
	"a repeated key":      func(c *crafted) []byte { return c.leafFile(records("a", "a")) },
	"an empty key": func(c *crafted) []byte {
		return c.leafFile(records("a"), item{value: []byte("value")})
	},
	"a key that is too long": func(c *crafted) []byte {
		return c.leafFile(records("a", strings.Repeat("b", 1<<15)))
	},
	"a leaf outside its bounds": func(c *crafted) []byte {
		return c.branchFile("a", records("a", "d"), "c", records("c", "e"))
	},
	"an empty leaf in a branch": func(c *crafted) []byte {
		return c.branchFile("a", records("a", "d"), "e", nil)
	},
	"a leaf above its key in the branch": func(c *crafted) []byte {
		return c.branchFile("a", records("a"), "c", records("d", "e"))
	},
	"a leaf below its bounds": func(c *crafted) []byte {
		return c.branchFile("a", records("a"), "c", records("b", "e"))
	},
	"the last leaf outside its bounds": func(c *crafted) []byte {
		first, inner, last := records("a"), records("b", "x"), records("m")
		low := c.add(encodeItems(branch, []item{
			{key: []byte("ka"), child: c.add(encodeItems(leaf, first))},
			{key: []byte("kb"), child: c.add(encodeItems(leaf, inner))},
		}))
		top := c.add(encodeItems(branch, []item{
			{key: []byte("ka"), child: low},
			{key: []byte("km"), child: c.add(encodeItems(leaf, last))},
		}))
		return c.file(top, append(append(first, inner...), last...))
	},
	"a branch without children": func(c *crafted) []byte {
		return c.file(c.add(encodeItems(branch, nil)), nil)
	},
	"a deep tree": func(c *crafted) []byte {
		items := records("a")
		id := c.add(encodeItems(leaf, items))
		for range 200 {
			id = c.add(encodeItems(branch, []item{{key: []byte("ka"), child: id}}))
		}
		return c.file(id, items)
	},
	"deeply nested buckets": func(c *crafted) []byte {
		nested := encodeItems(leaf, nil)
		for range 200 {
			nested = encodeItems(leaf, []item{bucket(inlineBucket(nested))})
		}
		return c.leafFile(records("a"), bucket(inlineBucket(nested)))
	},
	"deeply nested buckets with trees": func(c *crafted) []byte {
		id := c.add(encodeItems(leaf, nil))
		for range 200 {
			id = c.add(encodeItems(leaf, []item{bucket(bucketWithRoot(id))}))
		}
		return c.leafFile(records("a"), bucket(bucketWithRoot(id)))
	},
	"a bucket without a root": func(c *crafted) []byte {
		return c.leafFile(records("a"), bucket(make([]byte, 15)))
	},
	"a bucket without a page": func(c *crafted) []byte {
		return c.leafFile(records("a"), bucket(make([]byte, 16+8)))
	},
	"a record that is a bucket": func(c *crafted) []byte {
		items := records("a")
		items[0].bucket, items[0].value = true, inlineBucket(encodeItems(leaf, nil))
		return c.leafFile(items)
	},
	"a bucket that is a branch": func(c *crafted) []byte {
		return c.leafFile(records("a"), bucket(inlineBucket(encodeItems(branch, nil))))
	},
	"two buckets with one tree": func(c *crafted) []byte {
		items := records("a")
		id := c.add(encodeItems(leaf, items))
		return c.file(id, items, bucket(bucketWithRoot(id)))
	},
}

// overlapping returns a file of a few hundred kilobytes whose records unfold to 60 MB. The keys are in order: each is a
// suffix of the one before, and greater.
func overlapping(c *crafted) []byte {
	const n, size = 250, 250_000
	table := 16 + 16*n
	shared := append(bytes.Repeat([]byte("k"), n), "l"+strings.Repeat("x", size)...)
	var items, stored []item
	for i := range n {
		key, value := shared[i:n+1], shared[n+1:]
		items = append(items, item{key: key, value: value, at: table + i})
		stored = append(stored, item{key: key, value: value})
	}
	page := append(encodeItems(leaf, items), shared...)
	return c.file(c.add(page), stored)
}

func TestCraftedTree(t *testing.T) {
	for name, build := range craftedTrees {
		t.Run(name, func(t *testing.T) {
			mustRefuse(t, name, build(newCrafted()))
		})
	}
}

func TestCraftedFreelist(t *testing.T) {
	for name, ids := range map[string][]uint64{
		"a free page that is in use":      {3},
		"a repeated free page":            {5, 5},
		"a free page outside of the file": {5, 6},
		"a free root":                     {1, 5},
		"a freelist that is free":         {2, 5},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrafted()
			data := c.leafFile(records("a")) // pages 3 and 4
			freelist := data[2*c.pageSize:]
			binary.NativeEndian.PutUint16(freelist[10:], uint16(len(ids)))
			for i, id := range ids {
				binary.NativeEndian.PutUint64(freelist[16+8*i:], id)
			}
			if slices.Contains(ids, 5) { // add a free page
				data = append(data, make([]byte, c.pageSize)...)
				for _, root := range [][]byte{data, data[c.pageSize:]} {
					binary.NativeEndian.PutUint64(root[rootPages:], 6)
				}
				seal(data, c.pageSize)
			}
			mustRefuse(t, name, data)
		})
	}
	for _, n := range []uint64{600, 1 << 32, 1 << 60, 1<<61 + 1, 1 << 63, math.MaxUint64} {
		name := fmt.Sprint("a freelist of ", n, " pages")
		t.Run(name, func(t *testing.T) {
			c := newCrafted()
			data := c.leafFile(records("a"))
			freelist := data[2*c.pageSize:]
			binary.NativeEndian.PutUint16(freelist[10:], 0xFFFF)
			binary.NativeEndian.PutUint64(freelist[16:], n)
			mustRefuse(t, name, data)
		})
	}
}

// TestLongFreelist opens files with a freelist that spans pages and is read in several pieces.
func TestLongFreelist(t *testing.T) {
	for _, n := range []int{5000, 9000, 0xFFFE, 0xFFFF, 70_000} {
		c := newCrafted()
		data := c.leafFile(records("a"))
		pages := len(data) / c.pageSize
		list := make([]byte, 16)
		binary.NativeEndian.PutUint16(list[8:], 0x10)
		binary.NativeEndian.PutUint16(list[10:], uint16(min(n, 0xFFFF)))
		if n >= 0xFFFF {
			list = binary.NativeEndian.AppendUint64(list, uint64(n))
		}
		list = binary.NativeEndian.AppendUint64(list, 2) // the page of the short freelist
		own := (len(list) + 8*(n-1) + c.pageSize - 1) / c.pageSize
		for i := range n - 1 {
			list = binary.NativeEndian.AppendUint64(list, uint64(pages+own+i))
		}
		binary.NativeEndian.PutUint64(list, uint64(pages))
		binary.NativeEndian.PutUint32(list[12:], uint32(own-1))
		for _, root := range [][]byte{data, data[c.pageSize:]} {
			binary.NativeEndian.PutUint64(root[rootFreelist:], uint64(pages))
			binary.NativeEndian.PutUint64(root[rootPages:], uint64(pages+own+n-1))
		}
		seal(data, c.pageSize)
		path := file(t)
		if err := os.WriteFile(path, append(data, list...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(pages+own+n-1)*int64(c.pageSize)); err != nil {
			t.Skip(err)
		}
		s := open(t, path)
		mustSwap(t, s, "a", "value", "2", inAnHour())
		closeStore(t, s)
		if got := open(t, path).Peek("a"); got != "2" {
			t.Errorf("with %d free pages the record is %q, want 2", n, got)
		}
	}
}

// FuzzCrafted overwrites words of a small file and seals its roots. Open must accept or refuse the file in bounded memory.
// A file that opens must keep a swap.
func FuzzCrafted(f *testing.F) {
	whole, pageSize := smallFile(f)
	whole = bytes.TrimRight(whole, "\x00")
	whole = append(whole, make([]byte, pageSize-len(whole)%pageSize)...)
	for at := uint32(rootMagic); at < rootSum; at += 8 {
		f.Add(at, uint64(1<<52), uint32(pageSize)+at, uint64(1<<52), true)
		f.Add(at, uint64(math.MaxUint64), at+4, uint64(0), true)
	}
	for page := range uint32(len(whole) / pageSize) {
		f.Add(page*uint32(pageSize)+8, uint64(math.MaxUint64), uint32(0), uint64(0), false)
		f.Add(page*uint32(pageSize)+24, uint64(1<<52), uint32(0), uint64(0), false)
	}
	f.Add(uint32(41085), uint64(0), uint32(0), uint64(0), false) // the first key of a branch is less than the first key of its leaf
	f.Fuzz(func(t *testing.T, at1 uint32, word1 uint64, at2 uint32, word2 uint64, both bool) {
		data := bytes.Clone(whole)
		binary.NativeEndian.PutUint64(data[int(at1)%(len(data)-8):], word1)
		if both {
			binary.NativeEndian.PutUint64(data[int(at2)%(len(data)-8):], word2)
		}
		seal(data, pageSize)
		s, err := openCrafted(t, data)
		if err != nil {
			return
		}
		mustSwap(t, s, "a key of the test", "", "value", inAnHour())
		path := s.DB().Path()
		closeStore(t, s)
		if got := open(t, path).Peek("a key of the test"); got != "value" {
			t.Errorf("after the file was opened again the key is %q", got)
		}
	})
}
