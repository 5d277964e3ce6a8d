;; Vector arithmetic of aggregation over linear memory. SIMD, no fused multiply-add, no relaxed instructions: the same
;; bits as the plain loops of vector-kernel.ts on every machine. Counts are multiples of 4; callers pad with zeros.
(module
  (memory (export "memory") 1 65536)

  ;; acc[i] += weight * x[i]    acc: f64[n], x: f32[n]
  (func (export "accumulate") (param $acc i32) (param $x i32) (param $n i32) (param $weight f64)
    (local $end i32) (local $four v128) (local $w v128)
    (local.set $w (f64x2.splat (local.get $weight)))
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $n) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $x) (local.get $end)))
        (local.set $four (v128.load (local.get $x)))
        (v128.store (local.get $acc)
          (f64x2.add (v128.load (local.get $acc))
            (f64x2.mul (local.get $w) (f64x2.promote_low_f32x4 (local.get $four)))))
        (v128.store offset=16 (local.get $acc)
          (f64x2.add (v128.load offset=16 (local.get $acc))
            (f64x2.mul (local.get $w)
              (f64x2.promote_low_f32x4
                (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15
                  (local.get $four) (local.get $four))))))
        (local.set $x (i32.add (local.get $x) (i32.const 16)))
        (local.set $acc (i32.add (local.get $acc) (i32.const 32)))
        (br $next))))

  ;; out[i] = f32(base[i] + acc[i] / total)    out, base: f32[n], acc: f64[n]
  (func (export "finish") (param $out i32) (param $base i32) (param $acc i32) (param $n i32) (param $total f64)
    (local $end i32) (local $four v128) (local $t v128) (local $low v128) (local $high v128)
    (local.set $t (f64x2.splat (local.get $total)))
    (local.set $end (i32.add (local.get $base) (i32.shl (local.get $n) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $base) (local.get $end)))
        (local.set $four (v128.load (local.get $base)))
        (local.set $low
          (f32x4.demote_f64x2_zero
            (f64x2.add (f64x2.promote_low_f32x4 (local.get $four))
              (f64x2.div (v128.load (local.get $acc)) (local.get $t)))))
        (local.set $high
          (f32x4.demote_f64x2_zero
            (f64x2.add
              (f64x2.promote_low_f32x4
                (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15
                  (local.get $four) (local.get $four)))
              (f64x2.div (v128.load offset=16 (local.get $acc)) (local.get $t)))))
        (v128.store (local.get $out)
          (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23 (local.get $low) (local.get $high)))
        (local.set $base (i32.add (local.get $base) (i32.const 16)))
        (local.set $out (i32.add (local.get $out) (i32.const 16)))
        (local.set $acc (i32.add (local.get $acc) (i32.const 32)))
        (br $next))))

  ;; sum of x[i]^2 in float64, in four lanes added at the end; not finite exactly when some x[i] is not
  (func (export "sumOfSquares") (param $x i32) (param $n i32) (result f64)
    (local $end i32) (local $four v128) (local $half v128) (local $low v128) (local $high v128)
    (local.set $end (i32.add (local.get $x) (i32.shl (local.get $n) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $x) (local.get $end)))
        (local.set $four (v128.load (local.get $x)))
        (local.set $half (f64x2.promote_low_f32x4 (local.get $four)))
        (local.set $low (f64x2.add (local.get $low) (f64x2.mul (local.get $half) (local.get $half))))
        (local.set $half
          (f64x2.promote_low_f32x4
            (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15
              (local.get $four) (local.get $four))))
        (local.set $high (f64x2.add (local.get $high) (f64x2.mul (local.get $half) (local.get $half))))
        (local.set $x (i32.add (local.get $x) (i32.const 16)))
        (br $next)))
    (f64.add
      (f64.add (f64x2.extract_lane 0 (local.get $low)) (f64x2.extract_lane 1 (local.get $low)))
      (f64.add (f64x2.extract_lane 0 (local.get $high)) (f64x2.extract_lane 1 (local.get $high)))))
)
