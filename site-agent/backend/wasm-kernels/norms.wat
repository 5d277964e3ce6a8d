;; Reductions over pixels in NHWC order, which are biases and instance norm with leaky ReLU, and layer norm over channels.
;; Pointers and strides are bytes, counts are elements and never 0.
(module
  (import "env" "memory" (memory 0))

  ;; Four single numbers kept as two pairs of double ones: add to the lower pair, to the upper pair, and round back.
  (func $add_low (param $sum v128) (param $x v128) (result v128)
    (f64x2.add (local.get $sum) (f64x2.promote_low_f32x4 (local.get $x))))
  (func $add_high (param $sum v128) (param $x v128) (result v128)
    (f64x2.add
      (local.get $sum)
      (f64x2.promote_low_f32x4
        (i8x16.shuffle 8 9 10 11 12 13 14 15 8 9 10 11 12 13 14 15 (local.get $x) (local.get $x)))))
  (func $narrow (param $low v128) (param $high v128) (result v128)
    (i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23
      (f32x4.demote_f64x2_zero (local.get $low))
      (f32x4.demote_f64x2_zero (local.get $high))))

  ;; Sums over rows of four neighbouring columns. Runs of 64 rows are summed in single precision and the runs in double,
  ;; so that the rounding error does not grow with the length of a column.
  (func $sum4 (param $from i32) (param $rowBytes i32) (param $rows i32) (result v128)
    (local $low v128) (local $high v128) (local $part v128) (local $k i32)
    (loop $eachRun
      (local.set $part (v128.const i32x4 0 0 0 0))
      (local.set $k (select (i32.const 64) (local.get $rows) (i32.gt_s (local.get $rows) (i32.const 64))))
      (local.set $rows (i32.sub (local.get $rows) (local.get $k)))
      (loop $eachRow
        (local.set $part (f32x4.add (local.get $part) (v128.load (local.get $from))))
        (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
        (br_if $eachRow (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
      (local.set $low (call $add_low (local.get $low) (local.get $part)))
      (local.set $high (call $add_high (local.get $high) (local.get $part)))
      (br_if $eachRun (local.get $rows)))
    (call $narrow (local.get $low) (local.get $high)))

  ;; The same for the squares of the distances from $mean.
  (func $sum_squares4
    (param $from i32) (param $rowBytes i32) (param $rows i32) (param $mean v128) (result v128)
    (local $low v128) (local $high v128) (local $part v128) (local $d v128) (local $k i32)
    (loop $eachRun
      (local.set $part (v128.const i32x4 0 0 0 0))
      (local.set $k (select (i32.const 64) (local.get $rows) (i32.gt_s (local.get $rows) (i32.const 64))))
      (local.set $rows (i32.sub (local.get $rows) (local.get $k)))
      (loop $eachRow
        (local.set $d (f32x4.sub (v128.load (local.get $from)) (local.get $mean)))
        (local.set $part (f32x4.add (local.get $part) (f32x4.mul (local.get $d) (local.get $d))))
        (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
        (br_if $eachRow (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
      (local.set $low (call $add_low (local.get $low) (local.get $part)))
      (local.set $high (call $add_high (local.get $high) (local.get $part)))
      (br_if $eachRun (local.get $rows)))
    (call $narrow (local.get $low) (local.get $high)))

  ;; Sums over the rows of one column, in runs as above.
  (func $sum1 (param $from i32) (param $rowBytes i32) (param $rows i32) (result f32)
    (local $total f64) (local $part f32) (local $k i32)
    (loop $eachRun
      (local.set $part (f32.const 0))
      (local.set $k (select (i32.const 64) (local.get $rows) (i32.gt_s (local.get $rows) (i32.const 64))))
      (local.set $rows (i32.sub (local.get $rows) (local.get $k)))
      (loop $eachRow
        (local.set $part (f32.add (local.get $part) (f32.load (local.get $from))))
        (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
        (br_if $eachRow (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
      (local.set $total (f64.add (local.get $total) (f64.promote_f32 (local.get $part))))
      (br_if $eachRun (local.get $rows)))
    (f32.demote_f64 (local.get $total)))

  ;; Sums over the rows of a matrix [rows, columns].
  (func $column_sums (export "column_sums") (param $from i32) (param $to i32) (param $rows i32) (param $columns i32)
    (local $rowBytes i32) (local $i i32)
    (local.set $rowBytes (i32.shl (local.get $columns) (i32.const 2)))
    (if (i32.ge_u (local.get $rowBytes) (i32.const 16))
      (then
        (loop $eachVector
          (v128.store
            (i32.add (local.get $to) (local.get $i))
            (call $sum4 (i32.add (local.get $from) (local.get $i)) (local.get $rowBytes) (local.get $rows)))
          (local.set $i (i32.add (local.get $i) (i32.const 16)))
          (br_if $eachVector (i32.le_u (i32.add (local.get $i) (i32.const 16)) (local.get $rowBytes))))))
    (if (i32.lt_u (local.get $i) (local.get $rowBytes))
      (then
        (loop $eachNumber
          (f32.store
            (i32.add (local.get $to) (local.get $i))
            (call $sum1 (i32.add (local.get $from) (local.get $i)) (local.get $rowBytes) (local.get $rows)))
          (local.set $i (i32.add (local.get $i) (i32.const 4)))
          (br_if $eachNumber (i32.lt_u (local.get $i) (local.get $rowBytes)))))))

  ;; to = from + bias for a matrix [rows, columns] and a bias per column.
  (func (export "add_bias") (param $from i32) (param $to i32) (param $bias i32) (param $rows i32) (param $columns i32)
    (local $rowBytes i32) (local $i i32)
    (local.set $rowBytes (i32.shl (local.get $columns) (i32.const 2)))
    (loop $eachRow
      (local.set $i (i32.const 0))
      (if (i32.ge_u (local.get $rowBytes) (i32.const 16))
        (then
          (loop $eachVector
            (v128.store
              (i32.add (local.get $to) (local.get $i))
              (f32x4.add
                (v128.load (i32.add (local.get $from) (local.get $i)))
                (v128.load (i32.add (local.get $bias) (local.get $i)))))
            (local.set $i (i32.add (local.get $i) (i32.const 16)))
            (br_if $eachVector (i32.le_u (i32.add (local.get $i) (i32.const 16)) (local.get $rowBytes))))))
      (if (i32.lt_u (local.get $i) (local.get $rowBytes))
        (then
          (loop $eachNumber
            (f32.store
              (i32.add (local.get $to) (local.get $i))
              (f32.add
                (f32.load (i32.add (local.get $from) (local.get $i)))
                (f32.load (i32.add (local.get $bias) (local.get $i)))))
            (local.set $i (i32.add (local.get $i) (i32.const 4)))
            (br_if $eachNumber (i32.lt_u (local.get $i) (local.get $rowBytes))))))
      (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
      (local.set $to (i32.add (local.get $to) (local.get $rowBytes)))
      (br_if $eachRow (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; y = act((x - mean) / sqrt(variance + epsilon) * gamma + beta) with the mean and the variance of each image and
  ;; channel over its pixels, act(z) = max(z, slope * z), 0 <= slope <= 1. Channels >= 4.
  ;; Keeps mean and 1 / sqrt(variance + epsilon), both [images, channels], for the gradient.
  (func (export "instance_norm")
    (param $from i32) (param $to i32) (param $gamma i32) (param $beta i32) (param $means i32) (param $inverses i32)
    (param $images i32) (param $pixels i32) (param $channels i32) (param $epsilon f32) (param $slope f32)
    (local $channel i32) (local $byte i32) (local $rowBytes i32) (local $a i32) (local $b i32) (local $k i32)
    (local $mean v128) (local $inverse v128) (local $scale v128) (local $shift v128) (local $z v128) (local $slopes v128)
    (local $count v128)
    (local.set $rowBytes (i32.shl (local.get $channels) (i32.const 2)))
    (local.set $slopes (f32x4.splat (local.get $slope)))
    (local.set $count (f32x4.splat (f32.convert_i32_s (local.get $pixels))))
    (loop $eachImage
      (local.set $channel (i32.const 0))
      (loop $eachGroup
        (local.set $byte (i32.shl (local.get $channel) (i32.const 2)))
        (local.set $a (i32.add (local.get $from) (local.get $byte)))
        (local.set $b (i32.add (local.get $to) (local.get $byte)))
        (local.set $mean
          (f32x4.div (call $sum4 (local.get $a) (local.get $rowBytes) (local.get $pixels)) (local.get $count)))
        (local.set $inverse
          (f32x4.div
            (v128.const f32x4 1 1 1 1)
            (f32x4.sqrt
              (f32x4.add
                (f32x4.div
                  (call $sum_squares4 (local.get $a) (local.get $rowBytes) (local.get $pixels) (local.get $mean))
                  (local.get $count))
                (f32x4.splat (local.get $epsilon))))))
        (v128.store (i32.add (local.get $means) (local.get $byte)) (local.get $mean))
        (v128.store (i32.add (local.get $inverses) (local.get $byte)) (local.get $inverse))
        (local.set $scale
          (f32x4.mul (local.get $inverse) (v128.load (i32.add (local.get $gamma) (local.get $byte)))))
        (local.set $shift (v128.load (i32.add (local.get $beta) (local.get $byte))))
        (local.set $k (local.get $pixels))
        (loop $eachPixel
          (local.set $z
            (f32x4.add
              (f32x4.mul (f32x4.sub (v128.load (local.get $a)) (local.get $mean)) (local.get $scale))
              (local.get $shift)))
          (v128.store (local.get $b) (f32x4.pmax (local.get $z) (f32x4.mul (local.get $z) (local.get $slopes))))
          (local.set $a (i32.add (local.get $a) (local.get $rowBytes)))
          (local.set $b (i32.add (local.get $b) (local.get $rowBytes)))
          (br_if $eachPixel (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
        (local.set $channel (i32.add (local.get $channel) (i32.const 4)))
        (br_if $eachGroup (i32.le_s (i32.add (local.get $channel) (i32.const 4)) (local.get $channels)))
        (if (i32.lt_s (local.get $channel) (local.get $channels))
          (then
            (local.set $channel (i32.sub (local.get $channels) (i32.const 4)))
            (br $eachGroup))))
      (local.set $from (i32.add (local.get $from) (i32.mul (local.get $pixels) (local.get $rowBytes))))
      (local.set $to (i32.add (local.get $to) (i32.mul (local.get $pixels) (local.get $rowBytes))))
      (local.set $means (i32.add (local.get $means) (local.get $rowBytes)))
      (local.set $inverses (i32.add (local.get $inverses) (local.get $rowBytes)))
      (br_if $eachImage (local.tee $images (i32.sub (local.get $images) (i32.const 1))))))

  ;; Gradients of instance_norm: of its input at $to, and, one row an image, of gamma and beta. With z the value before
  ;; the activation, h the normalised input and g = dy * act'(z):
  ;; dx = gamma / sqrt(variance + epsilon) * (g - mean(g) - h * mean(g * h)).
  (func (export "instance_norm_gradient")
    (param $from i32) (param $dy i32) (param $to i32) (param $gamma i32) (param $beta i32)
    (param $means i32) (param $inverses i32) (param $gammaRows i32) (param $betaRows i32)
    (param $images i32) (param $pixels i32) (param $channels i32) (param $slope f32)
    (local $channel i32) (local $byte i32) (local $rowBytes i32) (local $a i32) (local $b i32) (local $c i32)
    (local $k i32) (local $rest i32)
    (local $mean v128) (local $inverse v128) (local $scale v128) (local $shift v128) (local $slopes v128)
    (local $h v128) (local $g v128) (local $sum v128) (local $dot v128) (local $partSum v128) (local $partDot v128)
    (local $count v128) (local $sumLow v128) (local $sumHigh v128) (local $dotLow v128) (local $dotHigh v128)
    (local.set $rowBytes (i32.shl (local.get $channels) (i32.const 2)))
    (local.set $slopes (f32x4.splat (local.get $slope)))
    (local.set $count (f32x4.splat (f32.convert_i32_s (local.get $pixels))))
    (loop $eachImage
      (local.set $channel (i32.const 0))
      (loop $eachGroup
        (local.set $byte (i32.shl (local.get $channel) (i32.const 2)))
        (local.set $mean (v128.load (i32.add (local.get $means) (local.get $byte))))
        (local.set $inverse (v128.load (i32.add (local.get $inverses) (local.get $byte))))
        (local.set $scale
          (f32x4.mul (local.get $inverse) (v128.load (i32.add (local.get $gamma) (local.get $byte)))))
        (local.set $shift (v128.load (i32.add (local.get $beta) (local.get $byte))))
        (local.set $sumLow (v128.const i32x4 0 0 0 0))
        (local.set $sumHigh (v128.const i32x4 0 0 0 0))
        (local.set $dotLow (v128.const i32x4 0 0 0 0))
        (local.set $dotHigh (v128.const i32x4 0 0 0 0))
        (local.set $a (i32.add (local.get $from) (local.get $byte)))
        (local.set $b (i32.add (local.get $dy) (local.get $byte)))
        (local.set $rest (local.get $pixels))
        (loop $eachRun
          (local.set $partSum (v128.const i32x4 0 0 0 0))
          (local.set $partDot (v128.const i32x4 0 0 0 0))
          (local.set $k (select (i32.const 64) (local.get $rest) (i32.gt_s (local.get $rest) (i32.const 64))))
          (local.set $rest (i32.sub (local.get $rest) (local.get $k)))
          (loop $eachPixel
            (local.set $h (f32x4.sub (v128.load (local.get $a)) (local.get $mean)))
            (local.set $g
              (f32x4.mul
                (v128.load (local.get $b))
                (v128.bitselect
                  (v128.const f32x4 1 1 1 1)
                  (local.get $slopes)
                  (f32x4.gt
                    (f32x4.add (f32x4.mul (local.get $h) (local.get $scale)) (local.get $shift))
                    (v128.const i32x4 0 0 0 0)))))
            (local.set $partSum (f32x4.add (local.get $partSum) (local.get $g)))
            (local.set $partDot (f32x4.add (local.get $partDot) (f32x4.mul (local.get $g) (local.get $h))))
            (local.set $a (i32.add (local.get $a) (local.get $rowBytes)))
            (local.set $b (i32.add (local.get $b) (local.get $rowBytes)))
            (br_if $eachPixel (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
          (local.set $sumLow (call $add_low (local.get $sumLow) (local.get $partSum)))
          (local.set $sumHigh (call $add_high (local.get $sumHigh) (local.get $partSum)))
          (local.set $dotLow (call $add_low (local.get $dotLow) (local.get $partDot)))
          (local.set $dotHigh (call $add_high (local.get $dotHigh) (local.get $partDot)))
          (br_if $eachRun (local.get $rest)))
        (local.set $sum (call $narrow (local.get $sumLow) (local.get $sumHigh)))
        (local.set $dot (call $narrow (local.get $dotLow) (local.get $dotHigh)))
        (local.set $dot (f32x4.mul (local.get $dot) (local.get $inverse)))
        (v128.store (i32.add (local.get $gammaRows) (local.get $byte)) (local.get $dot))
        (v128.store (i32.add (local.get $betaRows) (local.get $byte)) (local.get $sum))

        (local.set $sum (f32x4.div (local.get $sum) (local.get $count)))
        ;; h is not yet divided by the standard deviation, so its factor carries the inverse.
        (local.set $dot (f32x4.mul (f32x4.div (local.get $dot) (local.get $count)) (local.get $inverse)))
        (local.set $a (i32.add (local.get $from) (local.get $byte)))
        (local.set $b (i32.add (local.get $dy) (local.get $byte)))
        (local.set $c (i32.add (local.get $to) (local.get $byte)))
        (local.set $k (local.get $pixels))
        (loop $eachPixel
          (local.set $h (f32x4.sub (v128.load (local.get $a)) (local.get $mean)))
          (local.set $g
            (f32x4.mul
              (v128.load (local.get $b))
              (v128.bitselect
                (v128.const f32x4 1 1 1 1)
                (local.get $slopes)
                (f32x4.gt
                  (f32x4.add (f32x4.mul (local.get $h) (local.get $scale)) (local.get $shift))
                  (v128.const i32x4 0 0 0 0)))))
          (v128.store
            (local.get $c)
            (f32x4.mul
              (local.get $scale)
              (f32x4.sub
                (f32x4.sub (local.get $g) (local.get $sum))
                (f32x4.mul (local.get $h) (local.get $dot)))))
          (local.set $a (i32.add (local.get $a) (local.get $rowBytes)))
          (local.set $b (i32.add (local.get $b) (local.get $rowBytes)))
          (local.set $c (i32.add (local.get $c) (local.get $rowBytes)))
          (br_if $eachPixel (local.tee $k (i32.sub (local.get $k) (i32.const 1)))))
        (local.set $channel (i32.add (local.get $channel) (i32.const 4)))
        (br_if $eachGroup (i32.le_s (i32.add (local.get $channel) (i32.const 4)) (local.get $channels)))
        (if (i32.lt_s (local.get $channel) (local.get $channels))
          (then
            (local.set $channel (i32.sub (local.get $channels) (i32.const 4)))
            (br $eachGroup))))
      (local.set $from (i32.add (local.get $from) (i32.mul (local.get $pixels) (local.get $rowBytes))))
      (local.set $dy (i32.add (local.get $dy) (i32.mul (local.get $pixels) (local.get $rowBytes))))
      (local.set $to (i32.add (local.get $to) (i32.mul (local.get $pixels) (local.get $rowBytes))))
      (local.set $means (i32.add (local.get $means) (local.get $rowBytes)))
      (local.set $inverses (i32.add (local.get $inverses) (local.get $rowBytes)))
      (local.set $gammaRows (i32.add (local.get $gammaRows) (local.get $rowBytes)))
      (local.set $betaRows (i32.add (local.get $betaRows) (local.get $rowBytes)))
      (br_if $eachImage (local.tee $images (i32.sub (local.get $images) (i32.const 1))))))

  (func $sum_lanes (param $v v128) (result f32)
    (f32.add
      (f32.add (f32x4.extract_lane 0 (local.get $v)) (f32x4.extract_lane 1 (local.get $v)))
      (f32.add (f32x4.extract_lane 2 (local.get $v)) (f32x4.extract_lane 3 (local.get $v)))))

  (func $sum_pair (param $v v128) (result f64)
    (f64.add (f64x2.extract_lane 0 (local.get $v)) (f64x2.extract_lane 1 (local.get $v))))

  ;; y = (x - mean) / sqrt(variance + epsilon) * gamma + beta over every row of a matrix [rows, columns]; columns are a
  ;; multiple of 4. Statistics are double: a maximum behind the norm, as where Hiera pools, turns on its last bits. Keeps
  ;; mean and 1 / sqrt(variance + epsilon), both [rows], for the gradient.
  (func (export "layer_norm")
    (param $from i32) (param $to i32) (param $gamma i32) (param $beta i32) (param $means i32) (param $inverses i32)
    (param $rows i32) (param $columns i32) (param $epsilon f32)
    (local $i i32) (local $rowBytes i32) (local $count f64) (local $mean f32) (local $inverse f32)
    (local $low v128) (local $high v128) (local $v v128) (local $means2 v128) (local $means4 v128) (local $inverses4 v128) (local $d v128)
    (local.set $rowBytes (i32.shl (local.get $columns) (i32.const 2)))
    (local.set $count (f64.convert_i32_s (local.get $columns)))
    (loop $eachRow
      (local.set $low (v128.const i64x2 0 0))
      (local.set $high (v128.const i64x2 0 0))
      (local.set $i (i32.const 0))
      (loop $each
        (local.set $v (v128.load (i32.add (local.get $from) (local.get $i))))
        (local.set $low (call $add_low (local.get $low) (local.get $v)))
        (local.set $high (call $add_high (local.get $high) (local.get $v)))
        (br_if $each
          (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 16))) (local.get $rowBytes))))
      (local.set $low (f64x2.add (local.get $low) (local.get $high)))
      (local.set $means2 (f64x2.splat (f64.div (call $sum_pair (local.get $low)) (local.get $count))))
      (local.set $mean (f32.demote_f64 (f64x2.extract_lane 0 (local.get $means2))))
      (local.set $means4 (f32x4.splat (local.get $mean)))
      (local.set $low (v128.const i64x2 0 0))
      (local.set $high (v128.const i64x2 0 0))
      (local.set $i (i32.const 0))
      (loop $each
        (local.set $v (v128.load (i32.add (local.get $from) (local.get $i))))
        (local.set $d (f64x2.sub (f64x2.promote_low_f32x4 (local.get $v)) (local.get $means2)))
        (local.set $low (f64x2.add (local.get $low) (f64x2.mul (local.get $d) (local.get $d))))
        (local.set $d (f64x2.sub (call $add_high (v128.const i64x2 0 0) (local.get $v)) (local.get $means2)))
        (local.set $high (f64x2.add (local.get $high) (f64x2.mul (local.get $d) (local.get $d))))
        (br_if $each
          (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 16))) (local.get $rowBytes))))
      (local.set $low (f64x2.add (local.get $low) (local.get $high)))
      (local.set $inverse
        (f32.demote_f64
          (f64.div
            (f64.const 1)
            (f64.sqrt
              (f64.add
                (f64.div (call $sum_pair (local.get $low)) (local.get $count))
                (f64.promote_f32 (local.get $epsilon)))))))
      (local.set $inverses4 (f32x4.splat (local.get $inverse)))
      (f32.store (local.get $means) (local.get $mean))
      (f32.store (local.get $inverses) (local.get $inverse))
      (local.set $i (i32.const 0))
      (loop $each
        (v128.store
          (i32.add (local.get $to) (local.get $i))
          (f32x4.add
            (f32x4.mul
              (f32x4.mul
                (f32x4.sub (v128.load (i32.add (local.get $from) (local.get $i))) (local.get $means4))
                (local.get $inverses4))
              (v128.load (i32.add (local.get $gamma) (local.get $i))))
            (v128.load (i32.add (local.get $beta) (local.get $i)))))
        (br_if $each
          (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 16))) (local.get $rowBytes))))
      (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
      (local.set $to (i32.add (local.get $to) (local.get $rowBytes)))
      (local.set $means (i32.add (local.get $means) (i32.const 4)))
      (local.set $inverses (i32.add (local.get $inverses) (i32.const 4)))
      (br_if $eachRow (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; The gradient of layer_norm for its input. With h the normalised row and g = dy * gamma:
  ;; dx = (g - mean(g) - h * mean(g * h)) / sqrt(variance + epsilon).
  (func (export "layer_norm_gradient")
    (param $from i32) (param $dy i32) (param $to i32) (param $gamma i32) (param $means i32) (param $inverses i32)
    (param $rows i32) (param $columns i32)
    (local $i i32) (local $rowBytes i32) (local $count f32)
    (local $mean v128) (local $inverse v128) (local $g v128) (local $h v128) (local $sum v128) (local $dot v128)
    (local.set $rowBytes (i32.shl (local.get $columns) (i32.const 2)))
    (local.set $count (f32.convert_i32_s (local.get $columns)))
    (loop $eachRow
      (local.set $mean (v128.load32_splat (local.get $means)))
      (local.set $inverse (v128.load32_splat (local.get $inverses)))
      (local.set $sum (v128.const f32x4 0 0 0 0))
      (local.set $dot (v128.const f32x4 0 0 0 0))
      (local.set $i (i32.const 0))
      (loop $each
        (local.set $h
          (f32x4.mul
            (f32x4.sub (v128.load (i32.add (local.get $from) (local.get $i))) (local.get $mean))
            (local.get $inverse)))
        (local.set $g
          (f32x4.mul
            (v128.load (i32.add (local.get $dy) (local.get $i)))
            (v128.load (i32.add (local.get $gamma) (local.get $i)))))
        (local.set $sum (f32x4.add (local.get $sum) (local.get $g)))
        (local.set $dot (f32x4.add (local.get $dot) (f32x4.mul (local.get $g) (local.get $h))))
        (br_if $each
          (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 16))) (local.get $rowBytes))))
      (local.set $sum (f32x4.splat (f32.div (call $sum_lanes (local.get $sum)) (local.get $count))))
      (local.set $dot (f32x4.splat (f32.div (call $sum_lanes (local.get $dot)) (local.get $count))))
      (local.set $i (i32.const 0))
      (loop $each
        (local.set $h
          (f32x4.mul
            (f32x4.sub (v128.load (i32.add (local.get $from) (local.get $i))) (local.get $mean))
            (local.get $inverse)))
        (local.set $g
          (f32x4.mul
            (v128.load (i32.add (local.get $dy) (local.get $i)))
            (v128.load (i32.add (local.get $gamma) (local.get $i)))))
        (v128.store
          (i32.add (local.get $to) (local.get $i))
          (f32x4.mul
            (f32x4.sub
              (f32x4.sub (local.get $g) (local.get $sum))
              (f32x4.mul (local.get $h) (local.get $dot)))
            (local.get $inverse)))
        (br_if $each
          (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 16))) (local.get $rowBytes))))
      (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
      (local.set $dy (i32.add (local.get $dy) (local.get $rowBytes)))
      (local.set $to (i32.add (local.get $to) (local.get $rowBytes)))
      (local.set $means (i32.add (local.get $means) (i32.const 4)))
      (local.set $inverses (i32.add (local.get $inverses) (i32.const 4)))
      (br_if $eachRow (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; The gradient of layer_norm for gamma, as the sum of dy * h over the rows, of every run of 64 rows one row of sums at
  ;; $to, which is clear before: column_sums brings the runs together.
  (func (export "layer_norm_scale_gradient")
    (param $from i32) (param $dy i32) (param $to i32) (param $means i32) (param $inverses i32)
    (param $rows i32) (param $columns i32)
    (local $i i32) (local $rowBytes i32) (local $k i32) (local $mean v128) (local $inverse v128)
    (local.set $rowBytes (i32.shl (local.get $columns) (i32.const 2)))
    (local.set $k (i32.const 64))
    (loop $eachRow
      (local.set $mean (v128.load32_splat (local.get $means)))
      (local.set $inverse (v128.load32_splat (local.get $inverses)))
      (local.set $i (i32.const 0))
      (loop $each
        (v128.store
          (i32.add (local.get $to) (local.get $i))
          (f32x4.add
            (v128.load (i32.add (local.get $to) (local.get $i)))
            (f32x4.mul
              (v128.load (i32.add (local.get $dy) (local.get $i)))
              (f32x4.mul
                (f32x4.sub (v128.load (i32.add (local.get $from) (local.get $i))) (local.get $mean))
                (local.get $inverse)))))
        (br_if $each
          (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 16))) (local.get $rowBytes))))
      (local.set $from (i32.add (local.get $from) (local.get $rowBytes)))
      (local.set $dy (i32.add (local.get $dy) (local.get $rowBytes)))
      (local.set $means (i32.add (local.get $means) (i32.const 4)))
      (local.set $inverses (i32.add (local.get $inverses) (i32.const 4)))
      (if (i32.eqz (local.tee $k (i32.sub (local.get $k) (i32.const 1))))
        (then
          (local.set $k (i32.const 64))
          (local.set $to (i32.add (local.get $to) (local.get $rowBytes)))))
      (br_if $eachRow (local.tee $rows (i32.sub (local.get $rows) (i32.const 1)))))))
