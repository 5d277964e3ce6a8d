;; Matrix products and convolutions without im2col, and the gradients of their right factors, on the heap of the
;; TensorFlow.js wasm backend. Pointers and strides are bytes, counts are elements and never 0. Nothing is allocated
;; here and nothing outside the given ranges is written.
;;
;; Products are built from 4 x 8 tiles of the result: eight accumulators, two vectors of the right factor and four
;; broadcast numbers of the left one fill 14 of the 16 vector registers of x86-64. The compiler moves all loads of a
;; loop body to its start, so a body with more of them spills: unrolling makes these loops slower.
(module
  (import "env" "memory" (memory 0))

  ;; Copy `rows` x `columns` numbers of the tile at $tile (4 rows of 8) to four places.
  (func $store_partial
    (param $tile i32) (param $rows i32) (param $columns i32)
    (param $o0 i32) (param $o1 i32) (param $o2 i32) (param $o3 i32)
    (local $bytes i32)
    (local.set $bytes (i32.shl (local.get $columns) (i32.const 2)))
    (memory.copy (local.get $o0) (local.get $tile) (local.get $bytes))
    (if (i32.gt_s (local.get $rows) (i32.const 1))
      (then (memory.copy (local.get $o1) (i32.add (local.get $tile) (i32.const 32)) (local.get $bytes))))
    (if (i32.gt_s (local.get $rows) (i32.const 2))
      (then (memory.copy (local.get $o2) (i32.add (local.get $tile) (i32.const 64)) (local.get $bytes))))
    (if (i32.gt_s (local.get $rows) (i32.const 3))
      (then (memory.copy (local.get $o3) (i32.add (local.get $tile) (i32.const 96)) (local.get $bytes)))))

  ;; Add `rows` x `columns` numbers of the tile at $tile to a matrix with $rowBytes between its rows.
  (func $add_partial
    (param $tile i32) (param $rows i32) (param $columns i32) (param $out i32) (param $rowBytes i32)
    (local $column i32) (local $from i32) (local $to i32)
    (loop $eachRow
      (local.set $column (local.get $columns))
      (local.set $from (local.get $tile))
      (local.set $to (local.get $out))
      (loop $eachColumn
        (f32.store (local.get $to) (f32.add (f32.load (local.get $to)) (f32.load (local.get $from))))
        (local.set $from (i32.add (local.get $from) (i32.const 4)))
        (local.set $to (i32.add (local.get $to) (i32.const 4)))
        (br_if $eachColumn (local.tee $column (i32.sub (local.get $column) (i32.const 1)))))
      (local.set $tile (i32.add (local.get $tile) (i32.const 32)))
      (local.set $out (i32.add (local.get $out) (local.get $rowBytes)))
      (br_if $eachRow (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; The pixel that the next tile starts with, and the jumps at the end of a row and of an image.
  (global $x (mut i32) (i32.const 0))
  (global $y (mut i32) (i32.const 0))
  (global $in (mut i32) (i32.const 0))
  (global $out (mut i32) (i32.const 0))
  (global $width (mut i32) (i32.const 0))
  (global $height (mut i32) (i32.const 0))
  (global $inPixel (mut i32) (i32.const 0))
  (global $outPixel (mut i32) (i32.const 0))
  (global $inRowJump (mut i32) (i32.const 0))
  (global $outRowJump (mut i32) (i32.const 0))
  (global $inImageJump (mut i32) (i32.const 0))
  (global $outImageJump (mut i32) (i32.const 0))

  (func $next_pixel
    (global.set $x (i32.add (global.get $x) (i32.const 1)))
    (global.set $in (i32.add (global.get $in) (global.get $inPixel)))
    (global.set $out (i32.add (global.get $out) (global.get $outPixel)))
    (if (i32.eq (global.get $x) (global.get $width))
      (then
        (global.set $x (i32.const 0))
        (global.set $y (i32.add (global.get $y) (i32.const 1)))
        (global.set $in (i32.add (global.get $in) (global.get $inRowJump)))
        (global.set $out (i32.add (global.get $out) (global.get $outRowJump)))
        (if (i32.eq (global.get $y) (global.get $height))
          (then
            (global.set $y (i32.const 0))
            (global.set $in (i32.add (global.get $in) (global.get $inImageJump)))
            (global.set $out (i32.add (global.get $out) (global.get $outImageJump))))))))

  ;; For every output pixel and channel: bias + sum over segments and over the numbers of a segment of input * filter.
  ;; A segment is one row of the kernel window: its numbers are neighbours in a padded NHWC image. A matrix product is
  ;; the case of one segment and one row of pixels. $panels holds the filter packed for [segments * segmentLength, n];
  ;; $bias has a multiple of 8 entries; $tile has room for 32 numbers. Pixels are taken in chunks that stay in the cache
  ;; while all panels pass over them.
  (func (export "convolve")
    (param $input i32) (param $panels i32) (param $bias i32) (param $output i32) (param $tile i32)
    (param $images i32) (param $rows i32) (param $pixels i32)
    (param $inImage i32) (param $inRow i32) (param $inPixelBytes i32)
    (param $outImage i32) (param $outRow i32) (param $outPixelBytes i32)
    (param $n i32) (param $segments i32) (param $segmentBytes i32) (param $segmentLength i32) (param $chunk i32)
    (local $left i32) (local $inChunk i32) (local $rest i32) (local $valid i32) (local $segment i32) (local $k i32)
    (local $startX i32) (local $startY i32) (local $startIn i32) (local $startOut i32)
    (local $panel i32) (local $column i32) (local $b i32) (local $skip i32)
    (local $a0 i32) (local $a1 i32) (local $a2 i32) (local $a3 i32)
    (local $o0 i32) (local $o1 i32) (local $o2 i32) (local $o3 i32)
    (local $b0 v128) (local $b1 v128) (local $s v128)
    (local $c00 v128) (local $c01 v128) (local $c10 v128) (local $c11 v128)
    (local $c20 v128) (local $c21 v128) (local $c30 v128) (local $c31 v128)

    (global.set $x (i32.const 0))
    (global.set $y (i32.const 0))
    (global.set $in (local.get $input))
    (global.set $out (local.get $output))
    (global.set $width (local.get $pixels))
    (global.set $height (local.get $rows))
    (global.set $inPixel (local.get $inPixelBytes))
    (global.set $outPixel (local.get $outPixelBytes))
    (global.set $inRowJump
      (i32.sub (local.get $inRow) (i32.mul (local.get $pixels) (local.get $inPixelBytes))))
    (global.set $outRowJump
      (i32.sub (local.get $outRow) (i32.mul (local.get $pixels) (local.get $outPixelBytes))))
    (global.set $inImageJump (i32.sub (local.get $inImage) (i32.mul (local.get $rows) (local.get $inRow))))
    (global.set $outImageJump (i32.sub (local.get $outImage) (i32.mul (local.get $rows) (local.get $outRow))))
    ;; From the end of one segment to the start of the next.
    (local.set $skip (i32.sub (local.get $segmentBytes) (i32.shl (local.get $segmentLength) (i32.const 2))))
    (local.set $left (i32.mul (local.get $images) (i32.mul (local.get $rows) (local.get $pixels))))

    (loop $eachChunk
      (local.set $inChunk
        (select (local.get $chunk) (local.get $left) (i32.lt_s (local.get $chunk) (local.get $left))))
      (local.set $startX (global.get $x))
      (local.set $startY (global.get $y))
      (local.set $startIn (global.get $in))
      (local.set $startOut (global.get $out))
      (local.set $panel (local.get $panels))
      (local.set $column (i32.const 0))

      (loop $eachPanel
        (global.set $x (local.get $startX))
        (global.set $y (local.get $startY))
        (global.set $in (local.get $startIn))
        (global.set $out (local.get $startOut))
        (local.set $rest (local.get $inChunk))

        (loop $eachTile
          ;; Where the tile's four pixels lie. Pixels beyond the last are read as the first and not stored.
          (local.set $valid (select (local.get $rest) (i32.const 4) (i32.lt_s (local.get $rest) (i32.const 4))))
          (local.set $a0 (global.get $in))
          (local.set $o0 (i32.add (global.get $out) (i32.shl (local.get $column) (i32.const 2))))
          (if (i32.and
                (i32.eq (local.get $valid) (i32.const 4))
                (i32.lt_s (i32.add (global.get $x) (i32.const 4)) (global.get $width)))
            (then
              (local.set $a1 (i32.add (local.get $a0) (global.get $inPixel)))
              (local.set $a2 (i32.add (local.get $a1) (global.get $inPixel)))
              (local.set $a3 (i32.add (local.get $a2) (global.get $inPixel)))
              (local.set $o1 (i32.add (local.get $o0) (global.get $outPixel)))
              (local.set $o2 (i32.add (local.get $o1) (global.get $outPixel)))
              (local.set $o3 (i32.add (local.get $o2) (global.get $outPixel)))
              (global.set $x (i32.add (global.get $x) (i32.const 4)))
              (global.set $in (i32.add (local.get $a3) (global.get $inPixel)))
              (global.set $out (i32.add (global.get $out) (i32.shl (global.get $outPixel) (i32.const 2)))))
            (else
              (local.set $a1 (local.get $a0))
              (local.set $a2 (local.get $a0))
              (local.set $a3 (local.get $a0))
              (call $next_pixel)
              (if (i32.gt_s (local.get $valid) (i32.const 1))
                (then
                  (local.set $a1 (global.get $in))
                  (local.set $o1 (i32.add (global.get $out) (i32.shl (local.get $column) (i32.const 2))))
                  (call $next_pixel)))
              (if (i32.gt_s (local.get $valid) (i32.const 2))
                (then
                  (local.set $a2 (global.get $in))
                  (local.set $o2 (i32.add (global.get $out) (i32.shl (local.get $column) (i32.const 2))))
                  (call $next_pixel)))
              (if (i32.gt_s (local.get $valid) (i32.const 3))
                (then
                  (local.set $a3 (global.get $in))
                  (local.set $o3 (i32.add (global.get $out) (i32.shl (local.get $column) (i32.const 2))))
                  (call $next_pixel)))))

          (local.set $b (i32.add (local.get $bias) (i32.shl (local.get $column) (i32.const 2))))
          (local.set $c00 (v128.load (local.get $b)))
          (local.set $c01 (v128.load offset=16 (local.get $b)))
          (local.set $c10 (local.get $c00))
          (local.set $c11 (local.get $c01))
          (local.set $c20 (local.get $c00))
          (local.set $c21 (local.get $c01))
          (local.set $c30 (local.get $c00))
          (local.set $c31 (local.get $c01))

          (local.set $b (local.get $panel))
          (local.set $segment (local.get $segments))
          (loop $eachSegment
            (local.set $k (local.get $segmentLength))
            (loop $eachNumber
              (local.set $b0 (v128.load (local.get $b)))
              (local.set $b1 (v128.load offset=16 (local.get $b)))
              (local.set $s (v128.load32_splat (local.get $a0)))
              (local.set $c00 (f32x4.add (local.get $c00) (f32x4.mul (local.get $s) (local.get $b0))))
              (local.set $c01 (f32x4.add (local.get $c01) (f32x4.mul (local.get $s) (local.get $b1))))
              (local.set $s (v128.load32_splat (local.get $a1)))
              (local.set $c10 (f32x4.add (local.get $c10) (f32x4.mul (local.get $s) (local.get $b0))))
              (local.set $c11 (f32x4.add (local.get $c11) (f32x4.mul (local.get $s) (local.get $b1))))
              (local.set $s (v128.load32_splat (local.get $a2)))
              (local.set $c20 (f32x4.add (local.get $c20) (f32x4.mul (local.get $s) (local.get $b0))))
              (local.set $c21 (f32x4.add (local.get $c21) (f32x4.mul (local.get $s) (local.get $b1))))
              (local.set $s (v128.load32_splat (local.get $a3)))
              (local.set $c30 (f32x4.add (local.get $c30) (f32x4.mul (local.get $s) (local.get $b0))))
              (local.set $c31 (f32x4.add (local.get $c31) (f32x4.mul (local.get $s) (local.get $b1))))
              (local.set $a0 (i32.add (local.get $a0) (i32.const 4)))
              (local.set $a1 (i32.add (local.get $a1) (i32.const 4)))
              (local.set $a2 (i32.add (local.get $a2) (i32.const 4)))
              (local.set $a3 (i32.add (local.get $a3) (i32.const 4)))
              (local.set $b (i32.add (local.get $b) (i32.const 32)))
              (br_if $eachNumber (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
            (local.set $a0 (i32.add (local.get $a0) (local.get $skip)))
            (local.set $a1 (i32.add (local.get $a1) (local.get $skip)))
            (local.set $a2 (i32.add (local.get $a2) (local.get $skip)))
            (local.set $a3 (i32.add (local.get $a3) (local.get $skip)))
            (br_if $eachSegment (local.tee $segment (i32.sub (local.get $segment) (i32.const 1)))))

          (if (i32.and
                (i32.eq (local.get $valid) (i32.const 4))
                (i32.le_s (i32.add (local.get $column) (i32.const 8)) (local.get $n)))
            (then
              (v128.store (local.get $o0) (local.get $c00))
              (v128.store offset=16 (local.get $o0) (local.get $c01))
              (v128.store (local.get $o1) (local.get $c10))
              (v128.store offset=16 (local.get $o1) (local.get $c11))
              (v128.store (local.get $o2) (local.get $c20))
              (v128.store offset=16 (local.get $o2) (local.get $c21))
              (v128.store (local.get $o3) (local.get $c30))
              (v128.store offset=16 (local.get $o3) (local.get $c31)))
            (else
              (v128.store (local.get $tile) (local.get $c00))
              (v128.store offset=16 (local.get $tile) (local.get $c01))
              (v128.store offset=32 (local.get $tile) (local.get $c10))
              (v128.store offset=48 (local.get $tile) (local.get $c11))
              (v128.store offset=64 (local.get $tile) (local.get $c20))
              (v128.store offset=80 (local.get $tile) (local.get $c21))
              (v128.store offset=96 (local.get $tile) (local.get $c30))
              (v128.store offset=112 (local.get $tile) (local.get $c31))
              (call $store_partial
                (local.get $tile)
                (local.get $valid)
                (select
                  (i32.const 8)
                  (i32.sub (local.get $n) (local.get $column))
                  (i32.le_s (i32.add (local.get $column) (i32.const 8)) (local.get $n)))
                (local.get $o0) (local.get $o1) (local.get $o2) (local.get $o3))))

          (br_if $eachTile (i32.gt_s (local.tee $rest (i32.sub (local.get $rest) (i32.const 4))) (i32.const 0))))

        (local.set $panel
          (i32.add
            (local.get $panel)
            (i32.shl (i32.mul (local.get $segments) (local.get $segmentLength)) (i32.const 5))))
        (local.set $column (i32.add (local.get $column) (i32.const 8)))
        (br_if $eachPanel (i32.lt_s (local.get $column) (local.get $n))))

      (br_if $eachChunk
        (i32.gt_s (local.tee $left (i32.sub (local.get $left) (local.get $inChunk))) (i32.const 0)))))

  ;; Add to $gradient [segments, m, n] the sum over pixels of input[pixel, segment, m] * outputGradient[pixel, n]: the
  ;; gradient of a filter, and the product of a transposed matrix with another. Rows of pixels are taken in blocks that
  ;; stay in the cache while all tiles pass over them. Up to 3 numbers behind the last m and 7 behind the last n of a
  ;; pixel are read and not used.
  (func (export "filter_gradient")
    (param $input i32) (param $outputGradient i32) (param $gradient i32) (param $tile i32)
    (param $images i32) (param $rows i32) (param $pixels i32)
    (param $inImage i32) (param $inRow i32) (param $inPixelBytes i32)
    (param $outImage i32) (param $outRow i32) (param $outPixelBytes i32)
    (param $segments i32) (param $segmentBytes i32) (param $m i32) (param $n i32) (param $blockRows i32)
    (local $row i32) (local $blockRow i32) (local $inBlock i32) (local $segment i32) (local $i i32) (local $j i32)
    (local $inBase i32) (local $outBase i32) (local $inSegment i32) (local $a i32) (local $b i32) (local $c i32)
    (local $k i32) (local $rest i32) (local $full i32) (local $rowBytes i32) (local $inJump i32) (local $outJump i32)
    (local $b0 v128) (local $b1 v128) (local $s v128)
    (local $c00 v128) (local $c01 v128) (local $c10 v128) (local $c11 v128)
    (local $c20 v128) (local $c21 v128) (local $c30 v128) (local $c31 v128)
    (local.set $rowBytes (i32.shl (local.get $n) (i32.const 2)))
    (local.set $inJump (i32.sub (local.get $inRow) (i32.mul (local.get $pixels) (local.get $inPixelBytes))))
    (local.set $outJump (i32.sub (local.get $outRow) (i32.mul (local.get $pixels) (local.get $outPixelBytes))))

    (loop $eachImage
      (local.set $row (i32.const 0))
      (loop $eachBlock
        (local.set $inBlock (i32.sub (local.get $rows) (local.get $row)))
        (local.set $inBlock
          (select
            (local.get $blockRows)
            (local.get $inBlock)
            (i32.lt_s (local.get $blockRows) (local.get $inBlock))))
        (local.set $inBase (i32.add (local.get $input) (i32.mul (local.get $row) (local.get $inRow))))
        (local.set $outBase (i32.add (local.get $outputGradient) (i32.mul (local.get $row) (local.get $outRow))))
        (local.set $segment (i32.const 0))
        (loop $eachSegment
          (local.set $inSegment
            (i32.add (local.get $inBase) (i32.mul (local.get $segment) (local.get $segmentBytes))))
          (local.set $i (i32.const 0))
          (loop $eachRowOfTiles
            (local.set $j (i32.const 0))
            (loop $eachTile
              (local.set $a (i32.add (local.get $inSegment) (i32.shl (local.get $i) (i32.const 2))))
              (local.set $b (i32.add (local.get $outBase) (i32.shl (local.get $j) (i32.const 2))))
              (local.set $c
                (i32.add
                  (local.get $gradient)
                  (i32.add
                    (i32.mul
                      (i32.add (i32.mul (local.get $segment) (local.get $m)) (local.get $i))
                      (local.get $rowBytes))
                    (i32.shl (local.get $j) (i32.const 2)))))
              (local.set $full
                (i32.and
                  (i32.le_s (i32.add (local.get $i) (i32.const 4)) (local.get $m))
                  (i32.le_s (i32.add (local.get $j) (i32.const 8)) (local.get $n))))
              (local.set $c00 (v128.const i32x4 0 0 0 0))
              (local.set $c01 (v128.const i32x4 0 0 0 0))
              (local.set $c10 (v128.const i32x4 0 0 0 0))
              (local.set $c11 (v128.const i32x4 0 0 0 0))
              (local.set $c20 (v128.const i32x4 0 0 0 0))
              (local.set $c21 (v128.const i32x4 0 0 0 0))
              (local.set $c30 (v128.const i32x4 0 0 0 0))
              (local.set $c31 (v128.const i32x4 0 0 0 0))
              (local.set $blockRow (local.get $inBlock))
              (loop $eachPixelRow
                (local.set $k (local.get $pixels))
                (loop $eachPixel
                  (local.set $b0 (v128.load (local.get $b)))
                  (local.set $b1 (v128.load offset=16 (local.get $b)))
                  (local.set $s (v128.load32_splat (local.get $a)))
                  (local.set $c00 (f32x4.add (local.get $c00) (f32x4.mul (local.get $s) (local.get $b0))))
                  (local.set $c01 (f32x4.add (local.get $c01) (f32x4.mul (local.get $s) (local.get $b1))))
                  (local.set $s (v128.load32_splat offset=4 (local.get $a)))
                  (local.set $c10 (f32x4.add (local.get $c10) (f32x4.mul (local.get $s) (local.get $b0))))
                  (local.set $c11 (f32x4.add (local.get $c11) (f32x4.mul (local.get $s) (local.get $b1))))
                  (local.set $s (v128.load32_splat offset=8 (local.get $a)))
                  (local.set $c20 (f32x4.add (local.get $c20) (f32x4.mul (local.get $s) (local.get $b0))))
                  (local.set $c21 (f32x4.add (local.get $c21) (f32x4.mul (local.get $s) (local.get $b1))))
                  (local.set $s (v128.load32_splat offset=12 (local.get $a)))
                  (local.set $c30 (f32x4.add (local.get $c30) (f32x4.mul (local.get $s) (local.get $b0))))
                  (local.set $c31 (f32x4.add (local.get $c31) (f32x4.mul (local.get $s) (local.get $b1))))
                  (local.set $a (i32.add (local.get $a) (local.get $inPixelBytes)))
                  (local.set $b (i32.add (local.get $b) (local.get $outPixelBytes)))
                  (br_if $eachPixel (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
                (local.set $a (i32.add (local.get $a) (local.get $inJump)))
                (local.set $b (i32.add (local.get $b) (local.get $outJump)))
                (br_if $eachPixelRow (local.tee $blockRow (i32.sub (local.get $blockRow) (i32.const 1)))))
              (if (local.get $full)
                (then
                  (v128.store (local.get $c) (f32x4.add (v128.load (local.get $c)) (local.get $c00)))
                  (v128.store offset=16 (local.get $c)
                    (f32x4.add (v128.load offset=16 (local.get $c)) (local.get $c01)))
                  (local.set $c (i32.add (local.get $c) (local.get $rowBytes)))
                  (v128.store (local.get $c) (f32x4.add (v128.load (local.get $c)) (local.get $c10)))
                  (v128.store offset=16 (local.get $c)
                    (f32x4.add (v128.load offset=16 (local.get $c)) (local.get $c11)))
                  (local.set $c (i32.add (local.get $c) (local.get $rowBytes)))
                  (v128.store (local.get $c) (f32x4.add (v128.load (local.get $c)) (local.get $c20)))
                  (v128.store offset=16 (local.get $c)
                    (f32x4.add (v128.load offset=16 (local.get $c)) (local.get $c21)))
                  (local.set $c (i32.add (local.get $c) (local.get $rowBytes)))
                  (v128.store (local.get $c) (f32x4.add (v128.load (local.get $c)) (local.get $c30)))
                  (v128.store offset=16 (local.get $c)
                    (f32x4.add (v128.load offset=16 (local.get $c)) (local.get $c31))))
                (else
                  (v128.store (local.get $tile) (local.get $c00))
                  (v128.store offset=16 (local.get $tile) (local.get $c01))
                  (v128.store offset=32 (local.get $tile) (local.get $c10))
                  (v128.store offset=48 (local.get $tile) (local.get $c11))
                  (v128.store offset=64 (local.get $tile) (local.get $c20))
                  (v128.store offset=80 (local.get $tile) (local.get $c21))
                  (v128.store offset=96 (local.get $tile) (local.get $c30))
                  (v128.store offset=112 (local.get $tile) (local.get $c31))
                  (local.set $rest (i32.sub (local.get $m) (local.get $i)))
                  (local.set $k (i32.sub (local.get $n) (local.get $j)))
                  (call $add_partial
                    (local.get $tile)
                    (select (i32.const 4) (local.get $rest) (i32.gt_s (local.get $rest) (i32.const 4)))
                    (select (i32.const 8) (local.get $k) (i32.gt_s (local.get $k) (i32.const 8)))
                    (local.get $c)
                    (local.get $rowBytes))))
              (local.set $j (i32.add (local.get $j) (i32.const 8)))
              (br_if $eachTile (i32.lt_s (local.get $j) (local.get $n))))
            (local.set $i (i32.add (local.get $i) (i32.const 4)))
            (br_if $eachRowOfTiles (i32.lt_s (local.get $i) (local.get $m))))
          (local.set $segment (i32.add (local.get $segment) (i32.const 1)))
          (br_if $eachSegment (i32.lt_s (local.get $segment) (local.get $segments))))
        (local.set $row (i32.add (local.get $row) (local.get $blockRows)))
        (br_if $eachBlock (i32.lt_s (local.get $row) (local.get $rows))))
      (local.set $input (i32.add (local.get $input) (local.get $inImage)))
      (local.set $outputGradient (i32.add (local.get $outputGradient) (local.get $outImage)))
      (br_if $eachImage (local.tee $images (i32.sub (local.get $images) (i32.const 1)))))))
