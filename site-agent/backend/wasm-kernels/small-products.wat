;; Products of many small matrices, as in windowed attention: one call for the whole batch, because calls from JavaScript
;; cost more than the arithmetic. Pointers and strides are bytes, counts are elements and never 0.
(module
  (import "env" "memory" (memory 0))

  ;; output[b, i, j] = sum over l of a[b, i, l] * b[b, l, j]; rows of b and of the output are $n neighbours. The strides
  ;; of a say which of its axes is which: a transposed left factor is no other case.
  (func (export "small_products")
    (param $a i32) (param $b i32) (param $out i32) (param $batch i32) (param $m i32) (param $k i32) (param $n i32)
    (param $aBatch i32) (param $bBatch i32) (param $aRow i32) (param $aStep i32)
    (local $i i32) (local $j i32) (local $l i32) (local $rowBytes i32) (local $left i32) (local $at i32) (local $bt i32)
    (local $s v128) (local $c v128) (local $d v128) (local $e v128) (local $f v128) (local $x f32)
    (local.set $rowBytes (i32.shl (local.get $n) (i32.const 2)))
    (loop $eachBatch
      (local.set $i (local.get $m))
      (local.set $left (local.get $a))
      (loop $eachRow
        (local.set $j (i32.const 0))
        (block $wideEnd
          (loop $wide
            (br_if $wideEnd (i32.gt_u (i32.add (local.get $j) (i32.const 16)) (local.get $n)))
            (local.set $c (v128.const f32x4 0 0 0 0))
            (local.set $d (v128.const f32x4 0 0 0 0))
            (local.set $e (v128.const f32x4 0 0 0 0))
            (local.set $f (v128.const f32x4 0 0 0 0))
            (local.set $l (local.get $k))
            (local.set $at (local.get $left))
            (local.set $bt (i32.add (local.get $b) (i32.shl (local.get $j) (i32.const 2))))
            (loop $sum
              (local.set $s (v128.load32_splat (local.get $at)))
              (local.set $c (f32x4.add (local.get $c) (f32x4.mul (local.get $s) (v128.load (local.get $bt)))))
              (local.set $d (f32x4.add (local.get $d) (f32x4.mul (local.get $s) (v128.load offset=16 (local.get $bt)))))
              (local.set $e (f32x4.add (local.get $e) (f32x4.mul (local.get $s) (v128.load offset=32 (local.get $bt)))))
              (local.set $f (f32x4.add (local.get $f) (f32x4.mul (local.get $s) (v128.load offset=48 (local.get $bt)))))
              (local.set $at (i32.add (local.get $at) (local.get $aStep)))
              (local.set $bt (i32.add (local.get $bt) (local.get $rowBytes)))
              (br_if $sum (local.tee $l (i32.sub (local.get $l) (i32.const 1)))))
            (local.set $bt (i32.add (local.get $out) (i32.shl (local.get $j) (i32.const 2))))
            (v128.store (local.get $bt) (local.get $c))
            (v128.store offset=16 (local.get $bt) (local.get $d))
            (v128.store offset=32 (local.get $bt) (local.get $e))
            (v128.store offset=48 (local.get $bt) (local.get $f))
            (local.set $j (i32.add (local.get $j) (i32.const 16)))
            (br $wide)))
        (block $narrowEnd
          (loop $narrow
            (br_if $narrowEnd (i32.gt_u (i32.add (local.get $j) (i32.const 4)) (local.get $n)))
            (local.set $c (v128.const f32x4 0 0 0 0))
            (local.set $l (local.get $k))
            (local.set $at (local.get $left))
            (local.set $bt (i32.add (local.get $b) (i32.shl (local.get $j) (i32.const 2))))
            (loop $sum
              (local.set $c
                (f32x4.add
                  (local.get $c)
                  (f32x4.mul (v128.load32_splat (local.get $at)) (v128.load (local.get $bt)))))
              (local.set $at (i32.add (local.get $at) (local.get $aStep)))
              (local.set $bt (i32.add (local.get $bt) (local.get $rowBytes)))
              (br_if $sum (local.tee $l (i32.sub (local.get $l) (i32.const 1)))))
            (v128.store (i32.add (local.get $out) (i32.shl (local.get $j) (i32.const 2))) (local.get $c))
            (local.set $j (i32.add (local.get $j) (i32.const 4)))
            (br $narrow)))
        (block $singleEnd
          (loop $single
            (br_if $singleEnd (i32.ge_u (local.get $j) (local.get $n)))
            (local.set $x (f32.const 0))
            (local.set $l (local.get $k))
            (local.set $at (local.get $left))
            (local.set $bt (i32.add (local.get $b) (i32.shl (local.get $j) (i32.const 2))))
            (loop $sum
              (local.set $x
                (f32.add (local.get $x) (f32.mul (f32.load (local.get $at)) (f32.load (local.get $bt)))))
              (local.set $at (i32.add (local.get $at) (local.get $aStep)))
              (local.set $bt (i32.add (local.get $bt) (local.get $rowBytes)))
              (br_if $sum (local.tee $l (i32.sub (local.get $l) (i32.const 1)))))
            (f32.store (i32.add (local.get $out) (i32.shl (local.get $j) (i32.const 2))) (local.get $x))
            (local.set $j (i32.add (local.get $j) (i32.const 1)))
            (br $single)))
        (local.set $left (i32.add (local.get $left) (local.get $aRow)))
        (local.set $out (i32.add (local.get $out) (local.get $rowBytes)))
        (br_if $eachRow (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (local.set $a (i32.add (local.get $a) (local.get $aBatch)))
      (local.set $b (i32.add (local.get $b) (local.get $bBatch)))
      (br_if $eachBatch (local.tee $batch (i32.sub (local.get $batch) (i32.const 1))))))

  (func $sum_lanes (param $v v128) (result f32)
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $v)) (f32x4.extract_lane 1 (local.get $v)))
      (f32.add (f32x4.extract_lane 2 (local.get $v)) (f32x4.extract_lane 3 (local.get $v)))))

  ;; output[b, i, j] = sum over l of a[b, i, l] * b[b, j, l]: both factors have their $k neighbours in rows.
  (func (export "small_row_products")
    (param $a i32) (param $b i32) (param $out i32) (param $batch i32) (param $m i32) (param $k i32) (param $n i32)
    (param $aBatch i32) (param $bBatch i32)
    (local $i i32) (local $j i32) (local $l i32) (local $rowBytes i32) (local $left i32) (local $right i32)
    (local $at i32) (local $bt i32) (local $c v128) (local $x f32)
    (local.set $rowBytes (i32.shl (local.get $k) (i32.const 2)))
    (loop $eachBatch
      (local.set $i (local.get $m))
      (local.set $left (local.get $a))
      (loop $eachRow
        (local.set $j (local.get $n))
        (local.set $right (local.get $b))
        (loop $eachColumn
          (local.set $c (v128.const f32x4 0 0 0 0))
          (local.set $at (local.get $left))
          (local.set $bt (local.get $right))
          (local.set $l (local.get $k))
          (block $vectorsEnd
            (loop $vectors
              (br_if $vectorsEnd (i32.lt_u (local.get $l) (i32.const 4)))
              (local.set $c
                (f32x4.add
                  (local.get $c)
                  (f32x4.mul (v128.load (local.get $at)) (v128.load (local.get $bt)))))
              (local.set $at (i32.add (local.get $at) (i32.const 16)))
              (local.set $bt (i32.add (local.get $bt) (i32.const 16)))
              (local.set $l (i32.sub (local.get $l) (i32.const 4)))
              (br $vectors)))
          (local.set $x (call $sum_lanes (local.get $c)))
          (block $singleEnd
            (loop $single
              (br_if $singleEnd (i32.eqz (local.get $l)))
              (local.set $x
                (f32.add (local.get $x) (f32.mul (f32.load (local.get $at)) (f32.load (local.get $bt)))))
              (local.set $at (i32.add (local.get $at) (i32.const 4)))
              (local.set $bt (i32.add (local.get $bt) (i32.const 4)))
              (local.set $l (i32.sub (local.get $l) (i32.const 1)))
              (br $single)))
          (f32.store (local.get $out) (local.get $x))
          (local.set $out (i32.add (local.get $out) (i32.const 4)))
          (local.set $right (i32.add (local.get $right) (local.get $rowBytes)))
          (br_if $eachColumn (local.tee $j (i32.sub (local.get $j) (i32.const 1)))))
        (local.set $left (i32.add (local.get $left) (local.get $rowBytes)))
        (br_if $eachRow (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (local.set $a (i32.add (local.get $a) (local.get $aBatch)))
      (local.set $b (i32.add (local.get $b) (local.get $bBatch)))
      (br_if $eachBatch (local.tee $batch (i32.sub (local.get $batch) (i32.const 1)))))))
