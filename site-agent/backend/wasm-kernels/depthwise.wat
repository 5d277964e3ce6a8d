;; A depth-wise convolution in NHWC order and the gradient of its filter. Pointers and strides are bytes, counts are
;; elements and never 0, channels are a multiple of 4.
(module
  (import "env" "memory" (memory 0))

  ;; output[pixel, channel] = sum over taps of input[pixel moved by the tap, channel] * filter[tapY, tapX, channel]. Four
  ;; pixels of a row and four channels at a time: a tap is loaded once for all of them. The last four pixels of a row may
  ;; overlap those before; of fewer than four pixels the last one is computed again in the place of those that are missing.
  (func (export "depthwise_convolve")
    (param $input i32) (param $filter i32) (param $output i32)
    (param $images i32) (param $rows i32) (param $pixels i32)
    (param $inImage i32) (param $inRow i32) (param $inPixel i32)
    (param $outImage i32) (param $outRow i32) (param $outPixel i32)
    (param $tapRows i32) (param $tapColumns i32) (param $tapRowBytes i32) (param $channels i32)
    (local $row i32) (local $channel i32) (local $pixel i32) (local $start i32) (local $lastStart i32) (local $tapRow i32)
    (local $tapColumn i32) (local $a i32) (local $tap i32) (local $to i32) (local $channelBytes i32) (local $tapGap i32)
    (local $in1 i32) (local $in2 i32) (local $in3 i32) (local $out1 i32) (local $out2 i32) (local $out3 i32)
    (local $w v128) (local $s0 v128) (local $s1 v128) (local $s2 v128) (local $s3 v128)
    (local.set $channelBytes (i32.shl (local.get $channels) (i32.const 2)))
    (local.set $tapGap (i32.sub (local.get $tapRowBytes) (i32.mul (local.get $tapColumns) (local.get $channelBytes))))
    (local.set $lastStart
      (select
        (i32.sub (local.get $pixels) (i32.const 4))
        (i32.const 0)
        (i32.gt_s (local.get $pixels) (i32.const 4))))
    (local.set $in1 (i32.mul (local.get $inPixel) (call $at_most (i32.const 1) (local.get $pixels))))
    (local.set $in2 (i32.mul (local.get $inPixel) (call $at_most (i32.const 2) (local.get $pixels))))
    (local.set $in3 (i32.mul (local.get $inPixel) (call $at_most (i32.const 3) (local.get $pixels))))
    (local.set $out1 (i32.mul (local.get $outPixel) (call $at_most (i32.const 1) (local.get $pixels))))
    (local.set $out2 (i32.mul (local.get $outPixel) (call $at_most (i32.const 2) (local.get $pixels))))
    (local.set $out3 (i32.mul (local.get $outPixel) (call $at_most (i32.const 3) (local.get $pixels))))
    (loop $eachImage
      (local.set $row (i32.const 0))
      (loop $eachRow
        (local.set $channel (i32.const 0))
        (loop $eachGroup
          (local.set $pixel (i32.const 0))
          (loop $eachBlock
            (local.set $start
              (select
                (local.get $pixel)
                (local.get $lastStart)
                (i32.lt_s (local.get $pixel) (local.get $lastStart))))
            (local.set $a
              (i32.add
                (i32.add (local.get $input) (i32.mul (local.get $row) (local.get $inRow)))
                (i32.add (local.get $channel) (i32.mul (local.get $start) (local.get $inPixel)))))
            (local.set $tap (i32.add (local.get $filter) (local.get $channel)))
            (local.set $s0 (v128.const i32x4 0 0 0 0))
            (local.set $s1 (v128.const i32x4 0 0 0 0))
            (local.set $s2 (v128.const i32x4 0 0 0 0))
            (local.set $s3 (v128.const i32x4 0 0 0 0))
            (local.set $tapRow (local.get $tapRows))
            (loop $eachTapRow
              (local.set $tapColumn (local.get $tapColumns))
              (loop $eachTap
                (local.set $w (v128.load (local.get $tap)))
                (local.set $s0 (f32x4.add (local.get $s0) (f32x4.mul (local.get $w) (v128.load (local.get $a)))))
                (local.set $s1
                  (f32x4.add
                    (local.get $s1)
                    (f32x4.mul (local.get $w) (v128.load (i32.add (local.get $a) (local.get $in1))))))
                (local.set $s2
                  (f32x4.add
                    (local.get $s2)
                    (f32x4.mul (local.get $w) (v128.load (i32.add (local.get $a) (local.get $in2))))))
                (local.set $s3
                  (f32x4.add
                    (local.get $s3)
                    (f32x4.mul (local.get $w) (v128.load (i32.add (local.get $a) (local.get $in3))))))
                (local.set $a (i32.add (local.get $a) (local.get $channelBytes)))
                (local.set $tap (i32.add (local.get $tap) (local.get $channelBytes)))
                (br_if $eachTap (local.tee $tapColumn (i32.sub (local.get $tapColumn) (i32.const 1)))))
              (local.set $a (i32.add (local.get $a) (local.get $tapGap)))
              (br_if $eachTapRow (local.tee $tapRow (i32.sub (local.get $tapRow) (i32.const 1)))))
            (local.set $to
              (i32.add
                (i32.add (local.get $output) (i32.mul (local.get $row) (local.get $outRow)))
                (i32.add (local.get $channel) (i32.mul (local.get $start) (local.get $outPixel)))))
            (v128.store (local.get $to) (local.get $s0))
            (v128.store (i32.add (local.get $to) (local.get $out1)) (local.get $s1))
            (v128.store (i32.add (local.get $to) (local.get $out2)) (local.get $s2))
            (v128.store (i32.add (local.get $to) (local.get $out3)) (local.get $s3))
            (local.set $pixel (i32.add (local.get $pixel) (i32.const 4)))
            (br_if $eachBlock (i32.lt_s (local.get $pixel) (local.get $pixels))))
          (local.set $channel (i32.add (local.get $channel) (i32.const 16)))
          (br_if $eachGroup (i32.lt_s (local.get $channel) (local.get $channelBytes))))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br_if $eachRow (i32.lt_s (local.get $row) (local.get $rows))))
      (local.set $input (i32.add (local.get $input) (local.get $inImage)))
      (local.set $output (i32.add (local.get $output) (local.get $outImage)))
      (br_if $eachImage (local.tee $images (i32.sub (local.get $images) (i32.const 1))))))

  ;; Of `count` pixels the one at $index, or the last.
  (func $at_most (param $index i32) (param $count i32) (result i32)
    (select
      (local.get $index)
      (i32.sub (local.get $count) (i32.const 1))
      (i32.lt_s (local.get $index) (local.get $count))))

  ;; gradient[tapY, tapX, channel] = sum over pixels of input[pixel moved by the tap, channel] * dy[pixel, channel].
  ;; Rows are summed one by one before they are added up, which keeps the rounding error of large images small.
  (func (export "depthwise_filter_gradient")
    (param $input i32) (param $dy i32) (param $gradient i32)
    (param $images i32) (param $rows i32) (param $pixels i32)
    (param $inImage i32) (param $inRow i32) (param $inPixel i32)
    (param $outImage i32) (param $outRow i32) (param $outPixel i32)
    (param $tapRows i32) (param $tapColumns i32) (param $tapRowBytes i32) (param $channels i32)
    (local $tapRow i32) (local $tapColumn i32) (local $channel i32) (local $base i32) (local $image i32) (local $row i32)
    (local $pixel i32) (local $a i32) (local $b i32) (local $inEnd i32) (local $outEnd i32)
    (local $total v128) (local $part v128) (local $channelBytes i32)
    (local.set $channelBytes (i32.shl (local.get $channels) (i32.const 2)))
    (local.set $inEnd (i32.sub (local.get $inRow) (i32.mul (local.get $pixels) (local.get $inPixel))))
    (local.set $outEnd (i32.sub (local.get $outRow) (i32.mul (local.get $pixels) (local.get $outPixel))))
    (loop $eachTapRow
      (local.set $tapColumn (i32.const 0))
      (loop $eachTap
        (local.set $base
          (i32.add
            (local.get $input)
            (i32.add
              (i32.mul (local.get $tapRow) (local.get $tapRowBytes))
              (i32.mul (local.get $tapColumn) (local.get $channelBytes)))))
        (local.set $channel (i32.const 0))
        (loop $eachGroup
          (local.set $total (v128.const i32x4 0 0 0 0))
          (local.set $image (i32.const 0))
          (loop $eachImage
            (local.set $a
              (i32.add
                (i32.add (local.get $base) (local.get $channel))
                (i32.mul (local.get $image) (local.get $inImage))))
            (local.set $b
              (i32.add
                (i32.add (local.get $dy) (local.get $channel))
                (i32.mul (local.get $image) (local.get $outImage))))
            (local.set $row (local.get $rows))
            (loop $eachRow
              (local.set $part (v128.const i32x4 0 0 0 0))
              (local.set $pixel (local.get $pixels))
              (loop $eachPixel
                (local.set $part
                  (f32x4.add
                    (local.get $part)
                    (f32x4.mul (v128.load (local.get $a)) (v128.load (local.get $b)))))
                (local.set $a (i32.add (local.get $a) (local.get $inPixel)))
                (local.set $b (i32.add (local.get $b) (local.get $outPixel)))
                (br_if $eachPixel (local.tee $pixel (i32.sub (local.get $pixel) (i32.const 1)))))
              (local.set $total (f32x4.add (local.get $total) (local.get $part)))
              (local.set $a (i32.add (local.get $a) (local.get $inEnd)))
              (local.set $b (i32.add (local.get $b) (local.get $outEnd)))
              (br_if $eachRow (local.tee $row (i32.sub (local.get $row) (i32.const 1)))))
            (local.set $image (i32.add (local.get $image) (i32.const 1)))
            (br_if $eachImage (i32.lt_s (local.get $image) (local.get $images))))
          (v128.store (i32.add (local.get $gradient) (local.get $channel)) (local.get $total))
          (local.set $channel (i32.add (local.get $channel) (i32.const 16)))
          (br_if $eachGroup (i32.lt_s (local.get $channel) (local.get $channelBytes))))
        (local.set $gradient (i32.add (local.get $gradient) (local.get $channelBytes)))
        (local.set $tapColumn (i32.add (local.get $tapColumn) (i32.const 1)))
        (br_if $eachTap (i32.lt_s (local.get $tapColumn) (local.get $tapColumns))))
      (local.set $tapRow (i32.add (local.get $tapRow) (i32.const 1)))
      (br_if $eachTapRow (i32.lt_s (local.get $tapRow) (local.get $tapRows))))))
