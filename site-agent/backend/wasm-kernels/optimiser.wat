;; The arithmetic of one optimiser step over one tensor. Pointers are bytes, counts are elements and never 0.
(module
  (import "env" "memory" (memory 0))

  ;; Sum of squares in double precision.
  (func (export "sum_squares") (param $from i32) (param $count i32) (result f64)
    (local $sum f64) (local $x f64)
    (loop $each
      (local.set $x (f64.promote_f32 (f32.load (local.get $from))))
      (local.set $sum (f64.add (local.get $sum) (f64.mul (local.get $x) (local.get $x))))
      (local.set $from (i32.add (local.get $from) (i32.const 4)))
      (br_if $each (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $sum))

  ;; One AdamW step (Loshchilov and Hutter 2019) over vectors of four numbers; $count is a multiple of 4.
  ;; fresh1 = 1 - beta1, fresh2 = 1 - beta2, keep = 1 - learning rate * weight decay,
  ;; rate = learning rate / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t).
  (func (export "adamw")
    (param $value i32) (param $gradient i32) (param $first i32) (param $second i32)
    (param $newValue i32) (param $newFirst i32) (param $newSecond i32) (param $count i32)
    (param $scale f32) (param $beta1 f32) (param $fresh1 f32) (param $beta2 f32) (param $fresh2 f32)
    (param $keep f32) (param $rate f32) (param $root f32) (param $epsilon f32)
    (local $i i32) (local $end i32) (local $g v128) (local $m v128) (local $v v128)
    (local.set $end (i32.shl (local.get $count) (i32.const 2)))
    (loop $each
      (local.set $g
        (f32x4.mul
          (v128.load (i32.add (local.get $gradient) (local.get $i)))
          (f32x4.splat (local.get $scale))))
      (local.set $m
        (f32x4.add
          (f32x4.mul
            (v128.load (i32.add (local.get $first) (local.get $i)))
            (f32x4.splat (local.get $beta1)))
          (f32x4.mul (local.get $g) (f32x4.splat (local.get $fresh1)))))
      (local.set $v
        (f32x4.add
          (f32x4.mul
            (v128.load (i32.add (local.get $second) (local.get $i)))
            (f32x4.splat (local.get $beta2)))
          (f32x4.mul
            (f32x4.mul (local.get $g) (local.get $g))
            (f32x4.splat (local.get $fresh2)))))
      (v128.store (i32.add (local.get $newFirst) (local.get $i)) (local.get $m))
      (v128.store (i32.add (local.get $newSecond) (local.get $i)) (local.get $v))
      (v128.store
        (i32.add (local.get $newValue) (local.get $i))
        (f32x4.sub
          (f32x4.mul
            (v128.load (i32.add (local.get $value) (local.get $i)))
            (f32x4.splat (local.get $keep)))
          (f32x4.div
            (f32x4.mul (local.get $m) (f32x4.splat (local.get $rate)))
            (f32x4.add
              (f32x4.mul (f32x4.sqrt (local.get $v)) (f32x4.splat (local.get $root)))
              (f32x4.splat (local.get $epsilon))))))
      (local.set $i (i32.add (local.get $i) (i32.const 16)))
      (br_if $each (i32.lt_u (local.get $i) (local.get $end))))))
