;; Moving numbers into the order in which the other kernels read them. Pointers and strides are bytes, counts are
;; elements and never 0.
(module
  (import "env" "memory" (memory 0))

  ;; Pack a matrix [k, n] into panels of 8 columns: panel p holds, for every k, the columns 8p..8p+7, with zeros beyond
  ;; the last column. $kBytes and $nBytes are the distances in the source; $panelBytes is that between two panels.
  (func (export "pack_panels")
    (param $from i32) (param $k i32) (param $n i32) (param $kBytes i32) (param $nBytes i32)
    (param $to i32) (param $panelBytes i32)
    (local $rest i32) (local $source i32) (local $target i32) (local $column i32) (local $columns i32) (local $cell i32)
    (loop $eachPanel
      (local.set $columns (select (i32.const 8) (local.get $n) (i32.gt_s (local.get $n) (i32.const 8))))
      (local.set $rest (local.get $k))
      (local.set $source (local.get $from))
      (local.set $target (local.get $to))
      (if (i32.and (i32.eq (local.get $nBytes) (i32.const 4)) (i32.eq (local.get $columns) (i32.const 8)))
        (then
          (loop $eachRow
            (v128.store (local.get $target) (v128.load (local.get $source)))
            (v128.store offset=16 (local.get $target) (v128.load offset=16 (local.get $source)))
            (local.set $source (i32.add (local.get $source) (local.get $kBytes)))
            (local.set $target (i32.add (local.get $target) (i32.const 32)))
            (br_if $eachRow (local.tee $rest (i32.sub (local.get $rest) (i32.const 1))))))
        (else
          (loop $eachRow
            (v128.store (local.get $target) (v128.const i32x4 0 0 0 0))
            (v128.store offset=16 (local.get $target) (v128.const i32x4 0 0 0 0))
            (local.set $column (i32.const 0))
            (local.set $cell (local.get $source))
            (loop $eachColumn
              (f32.store
                (i32.add (local.get $target) (i32.shl (local.get $column) (i32.const 2)))
                (f32.load (local.get $cell)))
              (local.set $cell (i32.add (local.get $cell) (local.get $nBytes)))
              (local.set $column (i32.add (local.get $column) (i32.const 1)))
              (br_if $eachColumn (i32.lt_s (local.get $column) (local.get $columns))))
            (local.set $source (i32.add (local.get $source) (local.get $kBytes)))
            (local.set $target (i32.add (local.get $target) (i32.const 32)))
            (br_if $eachRow (local.tee $rest (i32.sub (local.get $rest) (i32.const 1)))))))
      (local.set $from (i32.add (local.get $from) (i32.shl (local.get $nBytes) (i32.const 3))))
      (local.set $to (i32.add (local.get $to) (local.get $panelBytes)))
      (br_if $eachPanel (i32.gt_s (local.tee $n (i32.sub (local.get $n) (i32.const 8))) (i32.const 0)))))

  ;; Copy `rows` runs of $bytes bytes between places with different distances.
  (func (export "copy_rows")
    (param $from i32) (param $to i32) (param $rows i32) (param $bytes i32) (param $fromBytes i32) (param $toBytes i32)
    (local $done i32)
    (loop $eachRow
      (local.set $done (i32.const 0))
      (if (i32.and (i32.le_u (local.get $bytes) (i32.const 512)) (i32.eqz (i32.and (local.get $bytes) (i32.const 15))))
        (then
          ;; Short runs: a loop of vectors is cheaper than the call behind memory.copy.
          (loop $eachVector
            (v128.store
              (i32.add (local.get $to) (local.get $done))
              (v128.load (i32.add (local.get $from) (local.get $done))))
            (local.set $done (i32.add (local.get $done) (i32.const 16)))
            (br_if $eachVector (i32.lt_u (local.get $done) (local.get $bytes)))))
        (else (memory.copy (local.get $to) (local.get $from) (local.get $bytes))))
      (local.set $from (i32.add (local.get $from) (local.get $fromBytes)))
      (local.set $to (i32.add (local.get $to) (local.get $toBytes)))
      (br_if $eachRow (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  (func (export "clear") (param $to i32) (param $bytes i32)
    (memory.fill (local.get $to) (i32.const 0) (local.get $bytes)))

  ;; Copy NHWC images into the middle of larger ones whose border is zero. Rows are counted in bytes: $rowBytes from the
  ;; source, $leftBytes before and $rightBytes behind them; $top and $bottom whole rows above and below.
  (func (export "pad_images")
    (param $from i32) (param $to i32) (param $images i32) (param $rows i32) (param $rowBytes i32)
    (param $top i32) (param $bottom i32) (param $leftBytes i32) (param $rightBytes i32)
    (local $paddedBytes i32) (local $row i32) (local $gap i32)
    (local.set $paddedBytes
      (i32.add (local.get $rowBytes) (i32.add (local.get $leftBytes) (local.get $rightBytes))))
    ;; Behind one row lie its right border and the left border of the next.
    (local.set $gap (i32.add (local.get $leftBytes) (local.get $rightBytes)))
    (loop $eachImage
      (local.set $row (i32.add (i32.mul (local.get $top) (local.get $paddedBytes)) (local.get $leftBytes)))
      (memory.fill (local.get $to) (i32.const 0) (local.get $row))
      (local.set $to (i32.add (local.get $to) (local.get $row)))
      (local.set $row (local.get $rows))
      (loop $eachRow
        (memory.copy (local.get $to) (local.get $from) (local.get $rowBytes))
        (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
        (local.set $to (i32.add (local.get $to) (local.get $rowBytes)))
        (local.set $row (i32.sub (local.get $row) (i32.const 1)))
        (if (local.get $row)
          (then
            (memory.fill (local.get $to) (i32.const 0) (local.get $gap))
            (local.set $to (i32.add (local.get $to) (local.get $gap)))
            (br $eachRow))))
      (local.set $row
        (i32.add (i32.mul (local.get $bottom) (local.get $paddedBytes)) (local.get $rightBytes)))
      (memory.fill (local.get $to) (i32.const 0) (local.get $row))
      (local.set $to (i32.add (local.get $to) (local.get $row)))
      (br_if $eachImage (local.tee $images (i32.sub (local.get $images) (i32.const 1))))))

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
