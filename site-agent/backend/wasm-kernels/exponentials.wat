;; What rests on the exponential function: GELU over vectors of four numbers, each array with room for a whole last
;; vector, and softmax over rows of any length. Pointers are bytes, counts are elements and never 0.
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

  (func $sum_lanes (param $v v128) (result f32)
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $v)) (f32x4.extract_lane 1 (local.get $v)))
      (f32.add (f32x4.extract_lane 2 (local.get $v)) (f32x4.extract_lane 3 (local.get $v)))))

  (func $max_lanes (param $v v128) (result f32)
    (f32.max
      (f32.max (f32x4.extract_lane 0 (local.get $v)) (f32x4.extract_lane 1 (local.get $v)))
      (f32.max (f32x4.extract_lane 2 (local.get $v)) (f32x4.extract_lane 3 (local.get $v)))))

  ;; Every row of a matrix [rows, columns] becomes e^(scale x - greatest) over the row's sum of these; scale > 0. It may
  ;; be written where it is read.
  (func (export "scaled_softmax")
    (param $from i32) (param $to i32) (param $rows i32) (param $columns i32) (param $scale f32)
    (local $i i32) (local $rowBytes i32) (local $wholeBytes i32)
    (local $scales v128) (local $greatest v128) (local $sums v128) (local $v v128) (local $most f32) (local $sum f32)
    (local.set $rowBytes (i32.shl (local.get $columns) (i32.const 2)))
    (local.set $wholeBytes (i32.and (local.get $rowBytes) (i32.const -16)))
    (local.set $scales (f32x4.splat (local.get $scale)))
    (loop $eachRow
      (local.set $most (f32.load (local.get $from)))
      (local.set $greatest (f32x4.splat (local.get $most)))
      (local.set $i (i32.const 0))
      (block $done
        (loop $vectors
          (br_if $done (i32.ge_u (local.get $i) (local.get $wholeBytes)))
          (local.set $greatest
            (f32x4.max (local.get $greatest) (v128.load (i32.add (local.get $from) (local.get $i)))))
          (local.set $i (i32.add (local.get $i) (i32.const 16)))
          (br $vectors)))
      (local.set $most (call $max_lanes (local.get $greatest)))
      (block $done
        (loop $numbers
          (br_if $done (i32.ge_u (local.get $i) (local.get $rowBytes)))
          (local.set $most (f32.max (local.get $most) (f32.load (i32.add (local.get $from) (local.get $i)))))
          (local.set $i (i32.add (local.get $i) (i32.const 4)))
          (br $numbers)))
      (local.set $greatest (f32x4.splat (local.get $most)))
      (local.set $sums (v128.const f32x4 0 0 0 0))
      (local.set $i (i32.const 0))
      (block $done
        (loop $vectors
          (br_if $done (i32.ge_u (local.get $i) (local.get $wholeBytes)))
          (local.set $v
            (call $exp
              (f32x4.mul
                (f32x4.sub (v128.load (i32.add (local.get $from) (local.get $i))) (local.get $greatest))
                (local.get $scales))))
          (v128.store (i32.add (local.get $to) (local.get $i)) (local.get $v))
          (local.set $sums (f32x4.add (local.get $sums) (local.get $v)))
          (local.set $i (i32.add (local.get $i) (i32.const 16)))
          (br $vectors)))
      (local.set $sum (call $sum_lanes (local.get $sums)))
      (block $done
        (loop $numbers
          (br_if $done (i32.ge_u (local.get $i) (local.get $rowBytes)))
          (local.set $v
            (call $exp
              (f32x4.mul
                (f32x4.sub
                  (v128.load32_splat (i32.add (local.get $from) (local.get $i)))
                  (local.get $greatest))
                (local.get $scales))))
          (f32.store (i32.add (local.get $to) (local.get $i)) (f32x4.extract_lane 0 (local.get $v)))
          (local.set $sum (f32.add (local.get $sum) (f32x4.extract_lane 0 (local.get $v))))
          (local.set $i (i32.add (local.get $i) (i32.const 4)))
          (br $numbers)))
      (local.set $sum (f32.div (f32.const 1) (local.get $sum)))
      (local.set $sums (f32x4.splat (local.get $sum)))
      (local.set $i (i32.const 0))
      (block $done
        (loop $vectors
          (br_if $done (i32.ge_u (local.get $i) (local.get $wholeBytes)))
          (v128.store
            (i32.add (local.get $to) (local.get $i))
            (f32x4.mul (local.get $sums) (v128.load (i32.add (local.get $to) (local.get $i)))))
          (local.set $i (i32.add (local.get $i) (i32.const 16)))
          (br $vectors)))
      (block $done
        (loop $numbers
          (br_if $done (i32.ge_u (local.get $i) (local.get $rowBytes)))
          (f32.store
            (i32.add (local.get $to) (local.get $i))
            (f32.mul (local.get $sum) (f32.load (i32.add (local.get $to) (local.get $i)))))
          (local.set $i (i32.add (local.get $i) (i32.const 4)))
          (br $numbers)))
      (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
      (local.set $to (i32.add (local.get $to) (local.get $rowBytes)))
      (br_if $eachRow (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; dx = scale p (dp - sum of p dp over the row), p what scaled_softmax gave. It may be written where dp is read.
  (func (export "scaled_softmax_gradient")
    (param $p i32) (param $dp i32) (param $to i32) (param $rows i32) (param $columns i32) (param $scale f32)
    (local $i i32) (local $rowBytes i32) (local $wholeBytes i32)
    (local $scales v128) (local $sums v128) (local $sum f32)
    (local.set $rowBytes (i32.shl (local.get $columns) (i32.const 2)))
    (local.set $wholeBytes (i32.and (local.get $rowBytes) (i32.const -16)))
    (local.set $scales (f32x4.splat (local.get $scale)))
    (loop $eachRow
      (local.set $sums (v128.const f32x4 0 0 0 0))
      (local.set $i (i32.const 0))
      (block $done
        (loop $vectors
          (br_if $done (i32.ge_u (local.get $i) (local.get $wholeBytes)))
          (local.set $sums
            (f32x4.add
              (local.get $sums)
              (f32x4.mul
                (v128.load (i32.add (local.get $p) (local.get $i)))
                (v128.load (i32.add (local.get $dp) (local.get $i))))))
          (local.set $i (i32.add (local.get $i) (i32.const 16)))
          (br $vectors)))
      (local.set $sum (call $sum_lanes (local.get $sums)))
      (block $done
        (loop $numbers
          (br_if $done (i32.ge_u (local.get $i) (local.get $rowBytes)))
          (local.set $sum
            (f32.add
              (local.get $sum)
              (f32.mul
                (f32.load (i32.add (local.get $p) (local.get $i)))
                (f32.load (i32.add (local.get $dp) (local.get $i))))))
          (local.set $i (i32.add (local.get $i) (i32.const 4)))
          (br $numbers)))
      (local.set $sums (f32x4.splat (local.get $sum)))
      (local.set $i (i32.const 0))
      (block $done
        (loop $vectors
          (br_if $done (i32.ge_u (local.get $i) (local.get $wholeBytes)))
          (v128.store
            (i32.add (local.get $to) (local.get $i))
            (f32x4.mul
              (f32x4.mul (local.get $scales) (v128.load (i32.add (local.get $p) (local.get $i))))
              (f32x4.sub (v128.load (i32.add (local.get $dp) (local.get $i))) (local.get $sums))))
          (local.set $i (i32.add (local.get $i) (i32.const 16)))
          (br $vectors)))
      (block $done
        (loop $numbers
          (br_if $done (i32.ge_u (local.get $i) (local.get $rowBytes)))
          (f32.store
            (i32.add (local.get $to) (local.get $i))
            (f32.mul
              (f32.mul (local.get $scale) (f32.load (i32.add (local.get $p) (local.get $i))))
              (f32.sub (f32.load (i32.add (local.get $dp) (local.get $i))) (local.get $sum))))
          (local.set $i (i32.add (local.get $i) (i32.const 4)))
          (br $numbers)))
      (local.set $p (i32.add (local.get $p) (local.get $rowBytes)))
      (local.set $dp (i32.add (local.get $dp) (local.get $rowBytes)))
      (local.set $to (i32.add (local.get $to) (local.get $rowBytes)))
      (br_if $eachRow (local.tee $rows (i32.sub (local.get $rows) (i32.const 1)))))))
