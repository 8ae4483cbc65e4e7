package middleware_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/ginrefresh/ginrefresh/middleware"
)

// The vectors of RFC 6979 check the reference implementation, and the reference implementation checks our signatures,
// because a token cannot have the content of a vector.
func TestECDSASignsByRFC6979(t *testing.T) {
	t.Parallel()
	for _, v := range vectorsRFC6979 {
		t.Run(string(v.algorithm), func(t *testing.T) {
			private := must(hex.DecodeString(v.private))
			for message, want := range v.signatures {
				r, s := referenceRFC6979(v.curve, v.point, v.hash, private, message)
				if got := fmt.Sprintf("%0*X %0*X", len(v.private), r, len(v.private), s); got != want[0]+" "+want[1] {
					t.Fatalf("the reference signs %q with %s", message, got)
				}
			}
			key := middleware.Key{Algorithm: v.algorithm, Key: must(ecdsa.ParseRawPrivateKey(v.curve, private))}
			auth := newAuth(t, pair, keys(key))
			verifiedByGolangJWT(t, login(t, auth), key)
			// r and s have a fixed width (RFC 7518 §3.4), so go on until each of them has begun with a zero byte. On P-521
			// that is every second one, on the other curves one in 256. P-384 is slow, so P-256 stands for both.
			zeros := [2]bool{}
			for n := 0; n < 20 || v.algorithm != middleware.ES384 && zeros != [2]bool{true, true}; n++ {
				tokens := issueTokens(t, auth, middleware.Identity{})
				for _, text := range []string{tokens.AccessToken, tokens.RefreshToken} {
					signed, signature, _ := cutLast(text, ".")
					r, s := referenceRFC6979(v.curve, v.point, v.hash, private, signed)
					want := slices.Concat(r.FillBytes(make([]byte, len(private))), s.FillBytes(make([]byte, len(private))))
					if signature != segment(string(want)) {
						t.Fatalf("the signature is %s, want %s", signature, segment(string(want)))
					}
					zeros[0] = zeros[0] || want[0] == 0
					zeros[1] = zeros[1] || want[len(private)] == 0
				}
				verify(t, auth, tokens.AccessToken)
			}
		})
	}
}

// referenceRFC6979 implements RFC 6979 §3.2 step by step.
func referenceRFC6979(curve elliptic.Curve, point ecdh.Curve, hash crypto.Hash, private []byte, message string) (r, s *big.Int) {
	n := curve.Params().N
	size := (n.BitLen() + 7) / 8
	toInt := func(b []byte) *big.Int {
		i := new(big.Int).SetBytes(b)
		return i.Rsh(i, uint(max(0, len(b)*8-n.BitLen())))
	}
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(hash.New, key)
		for _, part := range parts {
			h.Write(part)
		}
		return h.Sum(nil)
	}
	digest := hash.New()
	digest.Write([]byte(message))
	h := toInt(digest.Sum(nil))
	reduced := new(big.Int).Mod(h, n).FillBytes(make([]byte, size))
	k, v := make([]byte, hash.Size()), bytes.Repeat([]byte{1}, hash.Size())
	for _, step := range []byte{0, 1} {
		k = mac(k, v, []byte{step}, private, reduced)
		v = mac(k, v)
	}
	for {
		var t []byte
		for len(t) < size {
			v = mac(k, v)
			t = append(t, v...)
		}
		if nonce := toInt(t[:size]); nonce.Sign() > 0 && nonce.Cmp(n) < 0 {
			scalar := must(point.NewPrivateKey(nonce.FillBytes(make([]byte, size))))
			r = new(big.Int).SetBytes(scalar.PublicKey().Bytes()[1 : 1+size])
			r.Mod(r, n)
			s = new(big.Int).Mul(r, new(big.Int).SetBytes(private))
			s.Add(s, h).Mul(s, nonce.ModInverse(nonce, n)).Mod(s, n)
			return r, s
		}
		k = mac(k, v, []byte{0})
		v = mac(k, v)
	}
}

// vectorsRFC6979 are the vectors of RFC 6979 A.2.5, A.2.6 and A.2.7 with the hash of the JWS algorithm.
var vectorsRFC6979 = []struct {
	algorithm  middleware.Algorithm
	curve      elliptic.Curve
	point      ecdh.Curve
	hash       crypto.Hash
	private    string
	signatures map[string][2]string
}{
	{
		middleware.ES256, elliptic.P256(), ecdh.P256(), crypto.SHA256,
		"C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721",
		map[string][2]string{
			"sample": {
				"EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716",
				"F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
			},
			"test": {
				"F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367",
				"019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
			},
		},
	},
	{
		middleware.ES384, elliptic.P384(), ecdh.P384(), crypto.SHA384,
		"6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5",
		map[string][2]string{
			"sample": {
				"94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C81A648152E44ACF96E36DD1E80FABE46",
				"99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94FA329C145786E679E7B82C71A38628AC8",
			},
			"test": {
				"8203B63D3C853E8D77227FB377BCF7B7B772E97892A80F36AB775D509D7A5FEB0542A7F0812998DA8F1DD3CA3CF023DB",
				"DDD0760448D42D8A43AF45AF836FCE4DE8BE06B485E9B61B827C2F13173923E06A739F040649A667BF3B828246BAA5A5",
			},
		},
	},
	{
		middleware.ES512, elliptic.P521(), ecdh.P521(), crypto.SHA512,
		"00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538",
		map[string][2]string{
			"sample": {
				"00C328FAFCBD79DD77850370C46325D987CB525569FB63C5D3BC53950E6D4C5F174E25A1EE9017B5D450606ADD152B534931D7D4E8455CC91F9B15BF05EC36E377FA",
				"00617CCE7CF5064806C467F678D3B4080D6F1CC50AF26CA209417308281B68AF282623EAA63E5B5C0723D8B8C37FF0777B1A20F8CCB1DCCC43997F1EE0E44DA4A67A",
			},
			"test": {
				"013E99020ABF5CEE7525D16B69B229652AB6BDF2AFFCAEF38773B4B7D08725F10CDB93482FDCC54EDCEE91ECA4166B2A7C6265EF0CE2BD7051B7CEF945BABD47EE6D",
				"01FBD0013C674AA79CB39849527916CE301C66EA7CE8B80682786AD60F98F7E78A19CA69EFF5C57400E3B3A0AD66CE0978214D13BAF4E9AC60752F7B155E2DE4DCE3",
			},
		},
	},
}
