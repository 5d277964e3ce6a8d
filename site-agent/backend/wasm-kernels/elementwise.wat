;; Element-wise arithmetic in vectors of four numbers, each array with room for a whole last vector. Pointers are bytes,
;; counts are elements and never 0.
(module
  (import "env" "memory" (memory 0))

  ;; e^z for z <= 0 (Cephes, expf): z = n ln 2 + f, a polynomial in f, and n in the exponent. Below -87 it is as at -87.
  (func $exp (param $z v128) (result v128)
    (local $n v128) (local $f v128) (local $p v128)
    (local.set $z (f32x4.max (local.get $z) (v128.const f32x4 -87 -87 -87 -87)))
    (local.set $n
      (f32x4.nearest
        (f32x4.mul (local.get $z) (v128.const f32x4 1.44269504 1.44269504 1.44269504 1.44269504))))
    (local.set $f
      (f32x4.sub
        (f32x4.sub
          (local.get $z)
          (f32x4.mul (local.get $n) (v128.const f32x4 0.693359375 0.693359375 0.693359375 0.693359375)))
        (f32x4.mul
          (local.get $n)
          (v128.const f32x4 -2.12194440e-4 -2.12194440e-4 -2.12194440e-4 -2.12194440e-4))))
    (local.set $p (v128.const f32x4 1.9875691500e-4 1.9875691500e-4 1.9875691500e-4 1.9875691500e-4))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $f))
        (v128.const f32x4 1.3981999507e-3 1.3981999507e-3 1.3981999507e-3 1.3981999507e-3)))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $f))
        (v128.const f32x4 8.3334519073e-3 8.3334519073e-3 8.3334519073e-3 8.3334519073e-3)))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $f))
        (v128.const f32x4 4.1665795894e-2 4.1665795894e-2 4.1665795894e-2 4.1665795894e-2)))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $f))
        (v128.const f32x4 1.6666665459e-1 1.6666665459e-1 1.6666665459e-1 1.6666665459e-1)))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $f))
        (v128.const f32x4 5.0000001201e-1 5.0000001201e-1 5.0000001201e-1 5.0000001201e-1)))
    (local.set $p
      (f32x4.add
        (f32x4.add
          (f32x4.mul (local.get $p) (f32x4.mul (local.get $f) (local.get $f)))
          (local.get $f))
        (v128.const f32x4 1 1 1 1)))
    (f32x4.mul
      (local.get $p)
      (i32x4.shl
        (i32x4.add
          (i32x4.trunc_sat_f32x4_s (local.get $n))
          (v128.const i32x4 127 127 127 127))
        (i32.const 23))))

  ;; The normal distribution function of x, where $e is e^(-x^2/2): half of erfc by Abramowitz and Stegun 7.1.26, whose
  ;; error is below 1.5e-7; right of zero it is taken from 1.
  (func $phi (param $x v128) (param $e v128) (result v128)
    (local $t v128) (local $p v128)
    (local.set $t
      (f32x4.div
        (v128.const f32x4 1 1 1 1)
        (f32x4.add
          (v128.const f32x4 1 1 1 1)
          (f32x4.mul
            (f32x4.abs (local.get $x))
            (v128.const f32x4 0.231641888 0.231641888 0.231641888 0.231641888)))))
    (local.set $p (v128.const f32x4 1.061405429 1.061405429 1.061405429 1.061405429))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $t))
        (v128.const f32x4 -1.453152027 -1.453152027 -1.453152027 -1.453152027)))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $t))
        (v128.const f32x4 1.421413741 1.421413741 1.421413741 1.421413741)))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $t))
        (v128.const f32x4 -0.284496736 -0.284496736 -0.284496736 -0.284496736)))
    (local.set $p
      (f32x4.add
        (f32x4.mul (local.get $p) (local.get $t))
        (v128.const f32x4 0.254829592 0.254829592 0.254829592 0.254829592)))
    (local.set $p
      (f32x4.mul
        (f32x4.mul (f32x4.mul (local.get $p) (local.get $t)) (local.get $e))
        (v128.const f32x4 0.5 0.5 0.5 0.5)))
    (v128.bitselect
      (local.get $p)
      (f32x4.sub (v128.const f32x4 1 1 1 1) (local.get $p))
      (f32x4.lt (local.get $x) (v128.const f32x4 0 0 0 0))))

  (func $bell (param $x v128) (result v128)
    (call $exp
      (f32x4.mul
        (f32x4.mul (local.get $x) (local.get $x))
        (v128.const f32x4 -0.5 -0.5 -0.5 -0.5))))

  ;; y = x Phi(x)
  (func (export "gelu") (param $from i32) (param $to i32) (param $count i32)
    (local $i i32) (local $end i32) (local $x v128)
    (local.set $end (i32.shl (local.get $count) (i32.const 2)))
    (loop $each
      (local.set $x (v128.load (i32.add (local.get $from) (local.get $i))))
      (v128.store
        (i32.add (local.get $to) (local.get $i))
        (f32x4.mul (local.get $x) (call $phi (local.get $x) (call $bell (local.get $x)))))
      (local.set $i (i32.add (local.get $i) (i32.const 16)))
      (br_if $each (i32.lt_u (local.get $i) (local.get $end)))))

  ;; dx = dy (Phi(x) + x phi(x))
  (func (export "gelu_gradient") (param $from i32) (param $gradient i32) (param $to i32) (param $count i32)
    (local $i i32) (local $end i32) (local $x v128) (local $e v128)
    (local.set $end (i32.shl (local.get $count) (i32.const 2)))
    (loop $each
      (local.set $x (v128.load (i32.add (local.get $from) (local.get $i))))
      (local.set $e (call $bell (local.get $x)))
      (v128.store
        (i32.add (local.get $to) (local.get $i))
        (f32x4.mul
          (v128.load (i32.add (local.get $gradient) (local.get $i)))
          (f32x4.add
            (call $phi (local.get $x) (local.get $e))
            (f32x4.mul
              (f32x4.mul (local.get $x) (local.get $e))
              (v128.const f32x4 0.39894228 0.39894228 0.39894228 0.39894228)))))
      (local.set $i (i32.add (local.get $i) (i32.const 16)))
      (br_if $each (i32.lt_u (local.get $i) (local.get $end)))))

  ;; Neighbours change places, two by two; $count is even.
  (func (export "swap_pairs") (param $from i32) (param $to i32) (param $count i32)
    (local $i i32) (local $end i32) (local $v v128)
    (local.set $end (i32.shl (local.get $count) (i32.const 2)))
    (loop $each
      (local.set $v (v128.load (i32.add (local.get $from) (local.get $i))))
      (v128.store
        (i32.add (local.get $to) (local.get $i))
        (i8x16.shuffle 4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11 (local.get $v) (local.get $v)))
      (local.set $i (i32.add (local.get $i) (i32.const 16)))
      (br_if $each (i32.lt_u (local.get $i) (local.get $end))))))
