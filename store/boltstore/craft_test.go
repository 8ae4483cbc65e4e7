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

// The fields of a root, by their offset in its page, and where the checksum is.
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

// seal gives both roots the right checksum.
func seal(data []byte, pageSize int) {
	for _, root := range [][]byte{data, data[pageSize:]} {
		sum := fnv.New64a()
		sum.Write(root[rootMagic:rootSum])
		binary.NativeEndian.PutUint64(root[rootSum:], sum.Sum64())
	}
}

// openCrafted opens a file that may be crafted. It must neither panic nor take memory that the file does not justify.
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
		t.Errorf("Open took %d bytes of memory for a file of %d", took, len(data))
	}
	if err != nil {
		if strings.Contains(err.Error(), "runtime error") || strings.Contains(err.Error(), "assertion failed") {
			t.Errorf("the file was not checked before it was used: %v", err)
		}
		if !strings.Contains(err.Error(), path) {
			t.Errorf("the error does not name the file: %v", err)
		}
		if _, again := boltstore.Open(path); again == nil || again.Error() != err.Error() {
			t.Errorf("the second time, another error: %v, then %v", err, again)
		}
	}
	return s, err
}

func mustRefuse(t testing.TB, name string, data []byte) {
	t.Helper()
	s, err := openCrafted(t, data)
	if err == nil {
		s.Close()
		t.Errorf("%s: it opens", name)
	} else if !strings.Contains(err.Error(), "damaged") {
		t.Errorf("%s: the error does not say that the file is damaged: %v", name, err)
	}
}

// smallFile returns a file with a tree of two levels and free pages, and its page size.
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

// TestCraftedRoots writes impossible numbers into roots with right checksums.
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
				data := bytes.Clone(whole)
				for _, root := range roots {
					at := data[root*pageSize+field.at:]
					if field.size == 4 {
						binary.NativeEndian.PutUint32(at, uint32(value))
					} else {
						binary.NativeEndian.PutUint64(at, value)
					}
				}
				name := fmt.Sprint(field.name, " ", value, " in roots ", roots)
				if bytes.Equal(data, whole) {
					t.Fatal(name, ": nothing has changed")
				}
				seal(data, pageSize)
				if earlier := len(roots) == 1 && &whole[roots[0]*pageSize] != &latest[0]; earlier && field.size == 8 && field.at != rootTxID {
					// The earlier root says nothing about the present: bbolt will overwrite it.
					if s, err := openCrafted(t, data); err != nil {
						t.Errorf("%s: %v", name, err)
					} else {
						closeStore(t, s)
					}
					continue
				}
				mustRefuse(t, name, data)
			}
		}
	}
}

// TestNoPageSize has bbolt divide by the page size of a large file. The panic must not leave the file locked.
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
			t.Fatal("it opens")
		}
		if !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%v", err)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil { // the same file as far as locks go
		t.Fatal(err)
	}
	open(t, path)
}

// TestCraftedPages writes extreme numbers into each word of the headers and element tables of all pages.
func TestCraftedPages(t *testing.T) {
	whole, pageSize := smallFile(t)
	opened := 0
	for start := 2 * pageSize; start+pageSize <= len(whole); start += pageSize {
		if len(bytes.Trim(whole[start:start+pageSize], "\x00")) == 0 {
			continue // never used
		}
		for at := start; at < start+64; at += 4 {
			for _, value := range []uint32{0, 1, 0xFFFF, 1 << 16, 1 << 20, math.MaxInt32, 1 << 31, math.MaxUint32 - 15, math.MaxUint32} {
				data := bytes.Clone(whole)
				binary.NativeEndian.PutUint32(data[at:], value)
				s, err := openCrafted(t, data)
				if err != nil {
					continue
				}
				opened++
				if s.Len() != 40 {
					t.Errorf("page %d, byte %d, value %d: it opens with %d records", start/pageSize, at-start, value, s.Len())
				}
				s.Close()
			}
		}
	}
	t.Logf("%d files open: what was changed is free", opened)
}

// TestDamagedBranch flips bits of the keys in a branch. No record changes, but a search that goes astray would write a
// second record of the same key, and the next Open might find the first.
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
		t.Error("no file was refused")
	}
	t.Logf("%d files are refused, %d open", refused, opened)
}

// A crafted file is built page by page. Its roots are pages 0 and 1, its freelist is page 2.
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
	at         int // where its key is in the page, if not behind the previous item
}

// encodeItems returns a page without its number.
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

// add appends a page, with the additional ones it needs, and returns its number.
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

// file returns the file of a blacklist whose records are in the tree under the given page.
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

// record returns an item as the store writes it, which never expires.
func record(key, value string) item {
	return item{
		key:   []byte("k" + key),
		value: append(binary.BigEndian.AppendUint64(nil, 253402300799000), value...),
	}
}

// TestCraftedTree has files with all checksums right that bbolt would take at their word.
func TestCraftedTree(t *testing.T) {
	records := func(keys ...string) (items []item) {
		for _, key := range keys {
			items = append(items, record(key, "value"))
		}
		return items
	}
	whole := func(c *crafted) []byte {
		left, right := records("a", "b"), records("c", "d", "e")
		top := c.add(encodeItems(branch, []item{
			{key: []byte("ka"), child: c.add(encodeItems(leaf, left))},
			{key: []byte("kc"), child: c.add(encodeItems(leaf, right))},
		}))
		return c.file(top, append(left, right...))
	}
	for _, pageSize := range []int{4096, 8192, 16384, 65536} {
		// These open, so the files below are refused for the one thing that is wrong with them.
		t.Run(fmt.Sprint("whole, pages of ", pageSize), func(t *testing.T) {
			s, err := openCrafted(t, whole(&crafted{pageSize: pageSize}))
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
		t.Run(fmt.Sprint("pages of ", pageSize), func(t *testing.T) {
			data := whole(&crafted{pageSize: pageSize})
			mustRefuse(t, "impossible page size", append(data, make([]byte, 16<<10)...))
		})
	}
	refuse := func(name string, build func(c *crafted) []byte) {
		t.Run(name, func(t *testing.T) {
			mustRefuse(t, name, build(newCrafted()))
		})
	}
	refuse("overlapping records", func(c *crafted) []byte { // a few hundred kilobytes that unfold to 60 MB
		const n, size = 250, 250_000
		table := 16 + 16*n
		shared := append(bytes.Repeat([]byte("k"), n), "l"+strings.Repeat("x", size)...) // each suffix is greater than the one before
		var items, stored []item
		for i := range n {
			key, value := shared[i:n+1], shared[n+1:]
			items = append(items, item{key: key, value: value, at: table + i})
			stored = append(stored, item{key: key, value: value})
		}
		page := append(encodeItems(leaf, items), shared...)
		return c.file(c.add(page), stored)
	})
	refuse("keys out of order", func(c *crafted) []byte {
		items := records("b", "a")
		return c.file(c.add(encodeItems(leaf, items)), items)
	})
	refuse("a key twice", func(c *crafted) []byte {
		items := records("a", "a")
		return c.file(c.add(encodeItems(leaf, items)), items)
	})
	refuse("an empty key", func(c *crafted) []byte {
		items := records("a")
		return c.file(c.add(encodeItems(leaf, items)), items, item{value: []byte("value")})
	})
	refuse("a key that is too long", func(c *crafted) []byte {
		items := records("a", strings.Repeat("b", 1<<15))
		return c.file(c.add(encodeItems(leaf, items)), items)
	})
	refuse("a leaf outside its bounds", func(c *crafted) []byte {
		left, right := records("a", "d"), records("c", "e")
		top := c.add(encodeItems(branch, []item{
			{key: []byte("ka"), child: c.add(encodeItems(leaf, left))},
			{key: []byte("kc"), child: c.add(encodeItems(leaf, right))},
		}))
		return c.file(top, append(left, right...))
	})
	refuse("an empty leaf in a branch", func(c *crafted) []byte {
		left := records("a", "d")
		top := c.add(encodeItems(branch, []item{
			{key: []byte("ka"), child: c.add(encodeItems(leaf, left))},
			{key: []byte("ke"), child: c.add(encodeItems(leaf, nil))},
		}))
		return c.file(top, left)
	})
	refuse("a leaf above its key in the branch", func(c *crafted) []byte {
		left, right := records("a"), records("d", "e")
		top := c.add(encodeItems(branch, []item{
			{key: []byte("ka"), child: c.add(encodeItems(leaf, left))},
			{key: []byte("kc"), child: c.add(encodeItems(leaf, right))},
		}))
		return c.file(top, append(left, right...))
	})
	refuse("a leaf below its bounds", func(c *crafted) []byte {
		left, right := records("a"), records("b", "e")
		top := c.add(encodeItems(branch, []item{
			{key: []byte("ka"), child: c.add(encodeItems(leaf, left))},
			{key: []byte("kc"), child: c.add(encodeItems(leaf, right))},
		}))
		return c.file(top, append(left, right...))
	})
	refuse("the last leaf outside its bounds", func(c *crafted) []byte {
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
	})
	refuse("a branch without children", func(c *crafted) []byte {
		return c.file(c.add(encodeItems(branch, nil)), nil)
	})
	refuse("a deep tree", func(c *crafted) []byte {
		items := records("a")
		id := c.add(encodeItems(leaf, items))
		for range 200 {
			id = c.add(encodeItems(branch, []item{{key: []byte("ka"), child: id}}))
		}
		return c.file(id, items)
	})
	refuse("a bucket within a bucket, and so on", func(c *crafted) []byte {
		items := records("a")
		nested := encodeItems(leaf, nil)
		for range 200 {
			nested = encodeItems(leaf, []item{{key: []byte("b"), value: inlineBucket(nested), bucket: true}})
		}
		return c.file(c.add(encodeItems(leaf, items)), items, item{key: []byte("b"), value: inlineBucket(nested), bucket: true})
	})
	refuse("buckets with trees, and so on", func(c *crafted) []byte {
		items := records("a")
		id := c.add(encodeItems(leaf, nil))
		for range 200 {
			id = c.add(encodeItems(leaf, []item{{key: []byte("b"), value: bucketWithRoot(id), bucket: true}}))
		}
		return c.file(c.add(encodeItems(leaf, items)), items, item{key: []byte("b"), value: bucketWithRoot(id), bucket: true})
	})
	refuse("a bucket without a root", func(c *crafted) []byte {
		items := records("a")
		return c.file(c.add(encodeItems(leaf, items)), items, item{key: []byte("b"), value: make([]byte, 15), bucket: true})
	})
	refuse("a bucket without a page", func(c *crafted) []byte {
		items := records("a")
		return c.file(c.add(encodeItems(leaf, items)), items, item{key: []byte("b"), value: make([]byte, 16+8), bucket: true})
	})
	refuse("a record that is a bucket", func(c *crafted) []byte {
		items := records("a")
		items[0].bucket, items[0].value = true, inlineBucket(encodeItems(leaf, nil))
		return c.file(c.add(encodeItems(leaf, items)), items)
	})
	refuse("a bucket that is a branch", func(c *crafted) []byte {
		items := records("a")
		return c.file(c.add(encodeItems(leaf, items)), items, item{key: []byte("b"), value: inlineBucket(encodeItems(branch, nil)), bucket: true})
	})
	refuse("two buckets with one tree", func(c *crafted) []byte {
		items := records("a")
		id := c.add(encodeItems(leaf, items))
		return c.file(id, items, item{key: []byte("b"), value: bucketWithRoot(id), bucket: true})
	})
	for name, ids := range map[string][]uint64{
		"a free page that is in use":  {3},
		"a free page twice":           {5, 5},
		"a free page out of the file": {5, 6},
		"a free root":                 {1, 5},
		"a freelist that is free":     {2, 5},
	} {
		refuse(name, func(c *crafted) []byte {
			items := records("a")
			data := c.file(c.add(encodeItems(leaf, items)), items) // pages 3 and 4
			freelist := data[2*c.pageSize:]
			binary.NativeEndian.PutUint16(freelist[10:], uint16(len(ids)))
			for i, id := range ids {
				binary.NativeEndian.PutUint64(freelist[16+8*i:], id)
			}
			if slices.Contains(ids, 5) { // one more page, which is free
				data = append(data, make([]byte, c.pageSize)...)
				for _, root := range [][]byte{data, data[c.pageSize:]} {
					binary.NativeEndian.PutUint64(root[rootPages:], 6)
				}
				seal(data, c.pageSize)
			}
			return data
		})
	}
	for _, n := range []uint64{600, 1 << 32, 1 << 60, 1<<61 + 1, 1 << 63, math.MaxUint64} {
		refuse(fmt.Sprint("a freelist of ", n), func(c *crafted) []byte {
			items := records("a")
			data := c.file(c.add(encodeItems(leaf, items)), items)
			freelist := data[2*c.pageSize:]
			binary.NativeEndian.PutUint16(freelist[10:], 0xFFFF)
			binary.NativeEndian.PutUint64(freelist[16:], n)
			return data
		})
	}
}

// TestLongFreelist has a freelist that spans pages, and is read in pieces.
func TestLongFreelist(t *testing.T) {
	for _, n := range []int{5000, 9000, 0xFFFE, 0xFFFF, 70_000} {
		c := newCrafted()
		items := []item{record("a", "value")}
		id := c.add(encodeItems(leaf, items))
		data := c.file(id, items)
		pages := len(data) / c.pageSize
		list := make([]byte, 16)
		binary.NativeEndian.PutUint16(list[8:], 0x10)
		binary.NativeEndian.PutUint16(list[10:], uint16(min(n, 0xFFFF)))
		if n >= 0xFFFF {
			list = binary.NativeEndian.AppendUint64(list, uint64(n))
		}
		list = binary.NativeEndian.AppendUint64(list, 2) // where the short freelist was
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
			t.Errorf("with %d free pages the record is %q", n, got)
		}
	}
}

// FuzzCrafted overwrites words of a small file and seals its roots. The file must open or be refused, in bounded
// memory, and a file that opens must take swaps.
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
	f.Add(uint32(41085), uint64(0), uint32(0), uint64(0), false) // the first key of a branch is less than that of its leaf
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
			t.Errorf("after another opening the key is %q", got)
		}
	})
}
