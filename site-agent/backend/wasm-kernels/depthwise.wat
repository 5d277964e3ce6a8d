;; The filter gradient of a depth-wise convolution in NHWC order. Pointers and strides are bytes, counts are elements and
;; never 0, channels are a multiple of 4.
(module
  (import "env" "memory" (memory 0))

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
